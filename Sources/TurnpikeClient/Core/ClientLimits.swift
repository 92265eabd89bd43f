/// Every number that bounds the client, with its reason. Times are nanoseconds unless the name says otherwise.
package enum ClientLimits {
    static let millisecond: UInt64 = 1_000_000
    static let second: UInt64 = 1_000_000_000
    static let minute = 60 * second

    // MARK: Sockets

    /// Datagrams taken from a socket by one system call, and room for each. A path's packets have 1,500 bytes and the
    /// few that are longer come out cut, and do not authenticate.
    static let datagramsPerRead = 16
    static let datagramRoomBytes = 2_048
    /// What the system holds for a socket whose loop is busy: 20 ms at a gigabit.
    static let datagramBufferBytes = 2_097_152
    /// Destinations that one turn of the loop tells of that they cannot be reached.
    static let unreachableAtOnce = 64
    /// What waits to be sent on a connection whose other side does not take it: a second at 16 Mbit/s. A relay's
    /// datagrams are dropped long before.
    package static let streamQueueBytes = 2_097_152
    /// How long a TCP connection may take to come up.
    static let connectTime = 10 * second
    /// What the last words on a connection between peers have time for, before it is reset.
    static let streamFarewell = 200 * millisecond
    /// Connections that come in and wait to be taken.
    static let streamBacklog = 32
    /// TLS and the upgrade behind it: what a slow server with a slow path needs.
    static let handshakeTime = 10 * second
    /// Contexts with what is trusted: one for TLS, one for DTLS and one for signaling, and as many again.
    static let secureContexts = 6
    /// Datagrams of a handshake fit through what IPv6 guarantees, with its header and UDP's (RFC 8200 section 5).
    static let handshakeDatagramBytes = 1_232
    /// Before a flight of a handshake is sent again, in microseconds: it doubles, and RFC 6347's second is long for who
    /// waits to be connected.
    static let flightTimeMicroseconds: UInt32 = 400_000
    /// A message of the signaling server; its longest is 64 KiB, and a list of a room's peers has that as well.
    static let webSocketMessageBytes = 1_048_576
    /// Pieces of one message.
    static let webSocketFragments = 1_024
    /// How long the other side may take to answer a ping.
    static let pongTime = 10 * second
    /// How long a goodbye may take.
    static let farewellTime = 2 * second
    /// Addresses of one name that are looked at.
    static let addressesPerName = 16
    /// Addresses of this machine that are looked at; containers give some hosts hundreds.
    static let localAddresses = 64
    /// Names that are looked up at once; each takes a thread for as long as the name service does.
    static let lookups = 16

    // MARK: Relays

    /// Of one server's name; more are there for load alone.
    static let addressesTried = 6
    /// Between the beginnings of two attempts (RFC 8305 section 5).
    static let addressStagger = 250 * millisecond
    /// What an attempt that has come so far as to be answered gets before another begins.
    static let promiseTime = 2 * second
    /// From the name to the allocation. Half of `connectionTimeout`, so that who waits for a connection hears of it.
    static let relayTime = 15 * second
    /// What the old way to a relay stays open for when its allocation moves: the new one's handshakes, and the first
    /// data by it.
    static let moveTime = 20 * second
    /// Datagrams that wait on a connection to a relay: 100 ms at 20 Mbit/s. More would only be late.
    static let relayQueueBytes = 262_144
    /// Between the transports of a server, in the order UDP, TCP, TLS, DTLS.
    static let transportStagger = 250 * millisecond
    /// Servers on which relays are kept. One is needed, and one for the case that it goes.
    static let relayHosts = 2
    /// Servers by transport that are looked at.
    static let relayServers = 32
    /// Before a relay that was lost or not to be had is tried again; it doubles.
    static let relayRetry = 2 * second
    static let longestRelayRetry = 300 * second
    /// The same for a relay that was lost soon after it had come up: a server that is restarted is away for a moment.
    static let relayReturn = 100 * millisecond

    /// A server that answers is heard within this, also over a satellite. The way of one that does not is tried
    /// another time, by a socket of its own where the allocation can move.
    static let relayAnswerTime = 500 * millisecond
    /// A move that is not answered by then lets other ways to a relay begin beside it.
    static let relayMoveTime = 1_000 * millisecond
    /// An allocation that was lost after so long was a good one, and the next is asked for at once.
    static let stableRelay = 10 * second

    // MARK: Uplinks

    /// How often this machine's addresses are looked at, which is one system call; the system tells sooner as a rule.
    static let addressLook = 3 * second
    /// An interface comes up in many steps, each of which the system tells.
    static let addressRest = 50 * millisecond
    /// Where the system does not let anybody listen to it, or told more than was read.
    static let netlinkRetry = 5 * second
    /// Nothing but sleep keeps a loop from running for so long.
    static let leastSleep = 5 * second
    /// Between two looks at relays and mappings while a path is silent.
    static let checkPause = 5 * second
    /// While a path is in doubt, what servers have not answered is sent again, and those that were not reached are
    /// tried again, at this distance: one that comes back within the first time is found at once.
    static let hurryPause = 400 * millisecond
    static let hurryTime = minute

    // MARK: NATs

    /// The most often that mappings are used for a NAT's sake; one that forgets them sooner is of no use.
    static let shortestKeepAlive = 5 * second
    /// STUN servers that are looked up; discovery asks four of them at once.
    static let natServers = 8
    /// STUN servers that are asked over TCP until one answers.
    static let streamServersAsked = 3
    /// A person waits three seconds for a look at the network, start and end of the program included. A connection that
    /// is dropped is not known to be before two.
    package static let streamSurveyTime = 2_900 * millisecond
    /// How often this machine's addresses are looked at, which is one system call.
    static let addressCheck = 3 * second
    /// From a change of addresses to asking the servers anew.
    static let discoveryRest = 500 * millisecond

    // MARK: Port mapping

    /// Of the kernel's table of routes: some hundred lines of 128 bytes, with the default routes first.
    static let routeTableBytes = 65_536
    /// Default routes whose gateways are asked: an uplink and one in reserve.
    static let gateways = 2
    /// How often the default routes are looked at.
    static let gatewayCheck = 3 * second
    /// What begins waits for mappings so long and no longer: gateways are a millisecond away.
    static let mappingPatience = 250 * millisecond
}

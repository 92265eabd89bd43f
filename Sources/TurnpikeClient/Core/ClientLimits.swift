/// Every number that bounds the client, with its reason. Times are nanoseconds unless the name says otherwise.
package enum ClientLimits {
    static let millisecond: UInt64 = 1_000_000
    static let second: UInt64 = 1_000_000_000

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
}

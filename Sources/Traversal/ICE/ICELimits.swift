/// Every number that bounds an ICE agent, with its reason. What a peer sends can fill these and no more.
package enum ICELimits {
    /// A host has a handful of addresses, each with a reflexive and a few relayed candidates; with more than this,
    /// agents are known to spend their checks on virtual interfaces.
    package static let localCandidates = 32
    /// Signaled and peer-reflexive together. A peer of this library has up to 32 with those over TCP, and may be in its
    /// fourth network before those of the first count as unheard of; one behind a NAT that changes ports makes a new
    /// one for each of our bases.
    package static let remoteCandidates = 128
    /// RFC 8445 section 6.1.2.5: by default 100 pairs for all checklists.
    package static let pairs = 100
    /// Where the lists are full, what is new takes the place of what nothing authentic was heard of for so long. A
    /// check has gone out three times by then; and data is to be direct again 3 s after a peer has moved, however often
    /// it has moved before.
    static let hearing: UInt64 = 2_500_000_000
    /// Checks that come before the peer's credentials. They are authenticated with our password, which the peer has
    /// from our description, so only a peer can fill this; one check for each pair of a usual peer fits.
    package static let earlyChecks = 32
    /// mDNS names that wait for the caller's resolver.
    package static let names = 16
    /// Transactions of one pair that may still be answered: what was cancelled by a triggered check and a burst of
    /// probes.
    static let transactionsPerPair = 8
    /// A candidate line of a browser has at most some 250 bytes.
    package static let candidateLineBytes = 512
    /// Extension attributes of one line, each a name and a value; browsers write up to six.
    package static let extensionsPerLine = 16
    /// RFC 8839 section 5.1: foundations have at most 32 characters.
    package static let foundationCharacters = 32
    /// RFC 8839 section 5.4.
    package static let usernameFragmentCharacters = 4...256
    package static let passwordCharacters = 22...256
    /// RFC 1035 section 2.3.4: a name has at most 255 octets; mDNS names of browsers have 42.
    package static let nameBytes = 255
    /// The longest message written here: a USERNAME of 513 bytes and 100 bytes of other attributes.
    static let messageBytes = 1_024
    /// The longest datagram that every path carries: of the 1,280 bytes that IPv6 asks of every link (RFC 8200 section
    /// 5), IPv6 and UDP take 48, a Send indication about an IPv6 peer 48, and DTLS on the way to a relay 37.
    package static let datagramBytes = 1_147
    /// What a link of Ethernet's 1,500 bytes carries by IPv4. No path between two networks is known to carry more.
    package static let longestDatagramBytes = 1_472
    /// What direct paths are asked for, by their narrowest links: IPv6's least; tunnels; WireGuard in an Ethernet
    /// frame, with IPv6 outside, and what DSL and mobile carriers leave; PPPoE; Ethernet.
    static let probedLinkBytes = [1_280, 1_400, 1_420, 1_452, 1_492, 1_500]
    /// MAX_PROBES of RFC 8899 section 5.1.2.
    static let probes = 3
    /// PROBE_TIMER, of which RFC 8899 section 5.1.1 wants a second at least, or twice the round trip.
    static let probeTime: UInt64 = 1_000_000_000
    /// PMTU_RAISE_TIMER of RFC 8899 section 5.1.1.
    static let raiseInterval: UInt64 = 600_000_000_000
    /// A size in use is confirmed so often while data need it: a probe in a second in which data flow costs nothing,
    /// and what no longer arrives is noticed within two.
    static let confirmationInterval: UInt64 = 1_000_000_000
    /// Between two probes of a size that did arrive: with three of them it is known before SCTP waits for seconds.
    static let confirmationTime: UInt64 = 200_000_000
    /// Datagrams of data are so much shorter at most than they may be: SCTP pads to words, and ciphers differ.
    static let slackBytes = 32
    /// Unknown attributes listed in a 420, so that the answer is no longer than what provoked it.
    static let unknownAttributesListed = 8
    /// Connections over TCP that begin at one moment: two hosts with two addresses and a NAT each have no more to try,
    /// and no NAT or firewall takes so few for an attack.
    static let streamsAtOnce = 8
    /// RFC 8445 section 14.2: Ta is 50 ms where nothing else was agreed on, and must not be below 5 ms.
    package static let pacingNanosecondsUsual: UInt64 = 50_000_000
    static let pacingNanosecondsMinimum: UInt64 = 5_000_000
    /// A peer that wants longer between checks has a hundred of them done in no useful time.
    static let pacingNanosecondsMaximum: UInt64 = 500_000_000
    /// Permissions of all relays together that are not given back: those of all pairs, and as many of before a restart
    /// as the number leaves room for.
    static let permits = 128
    /// As long as a TURN client remembers the same.
    static let refusalMemory: UInt64 = 60_000_000_000
    /// An mDNS responder answers within a second, if it is up (RFC 6762 section 6); so often a name is asked for, and
    /// with this between.
    static let lookups = 3
    static let lookupPause: UInt64 = 2_000_000_000
    /// A Send or Data indication about an IPv6 peer, without a channel: header, address, and the data's own header.
    static let relayOverheadBytes = 48
    /// A role changes at most so often in one session. With honest tie-breakers one change suffices; a peer that
    /// answers every check with 487 could otherwise keep both sides switching.
    static let roleChanges = 8
}

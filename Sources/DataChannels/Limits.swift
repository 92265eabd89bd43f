/// Every bound of the data channels, each with its reason.
package enum DataChannelLimits {
    /// Associations of the process at once. Each number that usrsctp knows one by stays registered with it for good.
    package static let associations = 4_096
    /// Packets of one association that wait to be taken. usrsctp's window is smaller; beyond it a packet counts as lost
    /// on the way, which SCTP repairs.
    static let waitingPackets = 4_096
    /// Memory for waiting packets that an association keeps for the next ones. Most bursts are shorter.
    static let keptPacketBytes = 262_144
    /// How long after an association did something `SCTPStack.nextDeadline` counts it as busy: longer than an
    /// acknowledgement is held back, which is the only timer that is not known otherwise.
    static let activityNanoseconds: UInt64 = 250_000_000
    /// Between calls of `SCTPStack.advance` while timers may run that matter within milliseconds.
    static let busyTickNanoseconds: UInt64 = 10_000_000
    /// The same while only heartbeats may be due, which come every 15 s.
    static let idleTickNanoseconds: UInt64 = 1_000_000_000
    /// What one read takes from usrsctp. A longer message comes in parts.
    static let readBytes = 65_536
    /// Of a label and of a subprotocol. The format allows 64 KiB, which nobody writes, times the channels of a
    /// connection.
    package static let nameBytes = 4_096
    /// What an event costs the bound on waiting events beside its message, so that many empty messages are bounded too.
    static let eventBytes = 128
    /// Messages that come in parts at once, each on a stream of its own. usrsctp delivers one at a time.
    static let partialMessages = 16
    /// The longest packet that is looked at: a DTLS record's plaintext is not longer.
    static let packetBytes = 16_384
    /// Below it usrsctp could not put an INIT ACK with its cookie into one packet.
    static let leastPacketBytes = 576
    /// A packet that comes with an offer or answer: INIT ACK with its cookie has about 1,000.
    package static let signaledPacketBytes = 2_048
}

/// The bounds of what an SDP may hold. A browser's offer of audio, video and data has about 8 KiB and 200 lines.
package enum SessionDescriptionLimits {
    /// What the signaling carries in one message.
    package static let textBytes = 65_536
    package static let lineBytes = 4_096
    static let lines = 2_048
    static let sections = 64
    /// Of one section. A host with many interfaces and several relays has some dozens.
    static let candidates = 256
    static let fingerprints = 8
    static let iceOptions = 16
    /// RFC 8839 section 5.4 allows 256 characters of ufrag and of password.
    static let credentialBytes = 256
    static let midBytes = 64
}

/// Every bound of forwarding, each with its reason.
package enum ForwardLimits {
    package static let subprotocol = "turnpike-forward"
    /// A name has 253 bytes at most, a port 5.
    package static let targetBytes = 259
    static let explanationBytes = 512
    /// What may be sent before the peer said anything, so that a request does not wait for a round trip.
    package static let earlyBytes = 16_384
    /// Of TCP's bytes in one message. Longer ones would keep other channels waiting, since a message is sent in one
    /// run.
    package static let messageBytes = 16_384
    /// Read from TCP and not taken by the channel: so much that it never runs dry between two turns.
    static let waitingBytes = 131_072
    /// The peer is told of what was taken when it is this part of the window: rarely, but well before it is used up.
    static let creditsOfWindow = 4
    /// What one connection may have under way: 84 Mbit/s on a path of 100 ms.
    package static let greatestWindowBytes = 1_048_576
    package static let leastWindowBytes = 65_536
    /// Divided among the connections that are open, so that 256 of them, most of which had fewer beside them when they
    /// began, hold less than 160 MiB if nobody reads any.
    static let allWindowsBytes = 67_108_864
    /// A peer that allows more than any window says nonsense.
    static let greatestCredit = 1 << 30

    /// The window of a new connection beside so many others.
    package static func windowBytes(besideConnections count: Int) -> Int {
        clamped(allWindowsBytes / max(1, count + 1))
    }

    static func clamped(_ windowBytes: Int) -> Int { min(max(windowBytes, leastWindowBytes), greatestWindowBytes) }
}

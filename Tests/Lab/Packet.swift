import STUN

/// An IP packet on its way through the lab. It is never fragmented: every packet has DF set.
package struct Packet {
    /// Counts the packets of a run. A translated packet keeps its number, and so does the copy of a duplicated one.
    package internal(set) var number: UInt64 = 0
    package var source: Endpoint
    package var destination: Endpoint
    package var hopLimit: Int = 64
    package var body: Body

    package enum Body {
        case datagram([UInt8])
        case segment(Segment)
        case problem(Problem)
    }

    package init(source: Endpoint, destination: Endpoint, hopLimit: Int = 64, body: Body) {
        (self.source, self.destination) = (source, destination)
        (self.hopLimit, self.body) = (hopLimit, body)
    }

    package var transport: Transport? {
        switch body {
        case .datagram: .udp
        case .segment: .tcp
        case .problem: nil
        }
    }

    /// With the headers of IP and of the transport.
    package var byteCount: Int {
        let header = source.address.isIPv4 ? 20 : 40
        switch body {
        case .datagram(let bytes): return header + 8 + bytes.count
        case .segment(let segment): return header + 20 + segment.payload.count
        case .problem: return header + 36
        }
    }
}

package enum Transport: Hashable, Sendable {
    case udp, tcp
}

/// A TCP segment (RFC 9293). Sequence numbers do not wrap here.
package struct Segment {
    package struct Flags: OptionSet, Hashable, Sendable {
        package let rawValue: UInt8

        package init(rawValue: UInt8) { self.rawValue = rawValue }

        package static let fin = Flags(rawValue: 0x01)
        package static let syn = Flags(rawValue: 0x02)
        package static let rst = Flags(rawValue: 0x04)
        package static let ack = Flags(rawValue: 0x10)
    }

    package var flags: Flags
    package var sequence: UInt64
    package var acknowledgement: UInt64 = 0
    package var payload: [UInt8] = []

    package init(flags: Flags, sequence: UInt64, acknowledgement: UInt64 = 0, payload: [UInt8] = []) {
        (self.flags, self.payload) = (flags, payload)
        (self.sequence, self.acknowledgement) = (sequence, acknowledgement)
    }

    /// How much of the sequence space it takes.
    var length: UInt64 {
        UInt64(payload.count) + (flags.contains(.syn) ? 1 : 0) + (flags.contains(.fin) ? 1 : 0)
    }

    /// What answers a segment that nobody waits for (RFC 9293 section 3.10.7.1); nil for a reset, which is never
    /// answered.
    package var reset: Segment? {
        if flags.contains(.rst) { return nil }
        if flags.contains(.ack) { return Segment(flags: .rst, sequence: acknowledgement) }
        return Segment(flags: [.rst, .ack], sequence: 0, acknowledgement: sequence + length)
    }
}

/// What ICMP says of a packet that went nowhere.
package struct Problem: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        case portUnreachable
        case hopLimitExceeded
        case tooBig(mtuBytes: Int)
    }

    package var kind: Kind
    package var transport: Transport
    /// Where the packet came from, and where it was to go.
    package var source: Endpoint
    package var destination: Endpoint

    package init(_ kind: Kind, _ transport: Transport, source: Endpoint, destination: Endpoint) {
        (self.kind, self.transport) = (kind, transport)
        (self.source, self.destination) = (source, destination)
    }

    /// - Returns: nil for a packet that ICMP says nothing of: ICMP itself, and TCP resets.
    init?(_ kind: Kind, with packet: Packet) {
        guard let transport = packet.transport else { return nil }
        if case .segment(let segment) = packet.body, segment.flags.contains(.rst) { return nil }
        (self.kind, self.transport) = (kind, transport)
        (source, destination) = (packet.source, packet.destination)
    }
}

/// Why a packet went no further.
package enum Drop: String, Hashable, Sendable, CaseIterable {
    /// Lost on a link: by chance, in a burst, on a cut cable, behind a full queue, or longer than the link takes.
    case loss, burst, linkDown, queueFull, tooBig
    /// The two ends are kept apart.
    case partition
    case noRoute, hopLimit
    /// A NAT knows no such mapping, or the mapping does not admit that sender.
    case unmapped, filtered
    /// A NAT that does not hairpin, or has no port left.
    case hairpin, portsExhausted
    /// A rule of a firewall.
    case firewall
    /// A host that nobody listens on there.
    case noSocket
}

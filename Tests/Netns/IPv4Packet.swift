import Lab
import STUN

/// A whole IPv4 packet (RFC 791) in memory, as far as a NAT must know and change it.
struct IPv4Packet {
    enum Content {
        case udp, tcp
        /// An ICMP error about a packet of this transport, whose header begins here.
        case problem(Transport, innerOffset: Int)
    }

    private(set) var bytes: UnsafeMutableRawBufferPointer
    let headerBytes: Int
    let content: Content

    /// - Returns: nil for what a NAT drops: another protocol, a fragment, what is cut short or has a wrong checksum.
    init?(_ bytes: UnsafeMutableRawBufferPointer) {
        let raw = UnsafeRawBufferPointer(bytes)
        guard let header = Self.headerBytes(raw), Self.checksum(raw.slice(0, header)) == 0 else { return nil }
        let total = Int(raw.uint16(at: 2))
        // More fragments to come, or not the first.
        guard total >= header, total <= raw.count, raw.uint16(at: 6) & 0x3FFF == 0 else { return nil }
        self.bytes = UnsafeMutableRawBufferPointer(rebasing: bytes[..<total])
        headerBytes = header
        let payload = total - header
        switch raw[9] {
        case Self.udpProtocol:
            guard payload >= 8, (8...payload).contains(Int(raw.uint16(at: header + 4))) else { return nil }
            content = .udp
        case Self.tcpProtocol:
            guard payload >= 20, (20...payload).contains(Int(raw[header + 12] >> 4) * 4) else { return nil }
            content = .tcp
        case Self.icmpProtocol:
            // Destination unreachable, source quench, time exceeded, parameter problem (RFC 792).
            guard payload >= 8 + 20 + 8, [3, 4, 11, 12].contains(raw[header]) else { return nil }
            let inner = raw.slice(header + 8, payload - 8)
            guard let innerHeader = Self.headerBytes(inner), innerHeader + 8 <= inner.count else { return nil }
            switch inner[9] {
            case Self.udpProtocol: content = .problem(.udp, innerOffset: header + 8)
            case Self.tcpProtocol: content = .problem(.tcp, innerOffset: header + 8)
            default: return nil
            }
        default: return nil
        }
    }

    /// The same as the laboratory's NATs know it, without what they do not look at.
    var packet: Packet {
        let raw = UnsafeRawBufferPointer(bytes)
        let (source, destination) = endpoints(at: 0, ports: headerBytes)
        switch content {
        case .udp: return Packet(source: source, destination: destination, hopLimit: Int(raw[8]), body: .datagram([]))
        case .tcp:
            let segment = Segment(
                flags: Segment.Flags(rawValue: raw[headerBytes + 13]),
                sequence: UInt64(raw.uint32(at: headerBytes + 4)),
                acknowledgement: UInt64(raw.uint32(at: headerBytes + 8))
            )
            return Packet(source: source, destination: destination, hopLimit: Int(raw[8]), body: .segment(segment))
        case .problem(let transport, let inner):
            let about = endpoints(at: inner, ports: inner + innerHeaderBytes(inner))
            let problem = Problem(kind, transport, source: about.source, destination: about.destination)
            return Packet(
                source: Endpoint(source.address, 0),
                destination: Endpoint(destination.address, 0),
                hopLimit: Int(raw[8]),
                body: .problem(problem)
            )
        }
    }

    /// Bytes behind the header of TCP.
    var segmentPayloadBytes: Int { bytes.count - headerBytes - Int(bytes[headerBytes + 12] >> 4) * 4 }

    /// Writes a translated packet's endpoints, and mends the checksums.
    func rewrite(as packet: Packet) {
        switch (content, packet.body) {
        case (.udp, .datagram):
            rewrite(at: 0, ports: headerBytes, packet.source, packet.destination, checksumAt: headerBytes + 6)
        case (.tcp, .segment):
            rewrite(at: 0, ports: headerBytes, packet.source, packet.destination, checksumAt: headerBytes + 16)
        case (.problem(_, let inner), .problem(let problem)):
            setAddresses(at: 0, packet.source.address.v4, packet.destination.address.v4)
            // Of the inner transport's checksum nobody takes note, and TCP's is rarely there (RFC 5508 section 4.2).
            rewrite(at: inner, ports: inner + innerHeaderBytes(inner), problem.source, problem.destination)
            storeChecksum(of: headerBytes..<bytes.count, at: headerBytes + 2)
        default: break
        }
    }

    private var kind: Problem.Kind {
        let raw = UnsafeRawBufferPointer(bytes)
        return switch (raw[headerBytes], raw[headerBytes + 1]) {
        case (3, 4): .tooBig(mtuBytes: Int(raw.uint16(at: headerBytes + 6)))
        case (11, _): .hopLimitExceeded
        default: .portUnreachable
        }
    }

    private func innerHeaderBytes(_ inner: Int) -> Int { Int(bytes[inner] & 0x0F) * 4 }

    private func endpoints(at header: Int, ports: Int) -> (source: Endpoint, destination: Endpoint) {
        let raw = UnsafeRawBufferPointer(bytes)
        return (
            Endpoint(IPAddress(v4: raw.uint32(at: header + 12)), raw.uint16(at: ports)),
            Endpoint(IPAddress(v4: raw.uint32(at: header + 16)), raw.uint16(at: ports + 2))
        )
    }

    private func setAddresses(at header: Int, _ source: UInt32, _ destination: UInt32) {
        bytes.store(source, at: header + 12)
        bytes.store(destination, at: header + 16)
        storeChecksum(of: header..<header + Int(bytes[header] & 0x0F) * 4, at: header + 10)
    }

    private func rewrite(
        at header: Int,
        ports: Int,
        _ source: Endpoint,
        _ destination: Endpoint,
        checksumAt checksum: Int? = nil
    ) {
        let raw = UnsafeRawBufferPointer(bytes)
        let before = Self.sum(raw.slice(header + 12, 8)) + Self.sum(raw.slice(ports, 4))
        setAddresses(at: header, source.address.v4, destination.address.v4)
        bytes.store(source.port, at: ports)
        bytes.store(destination.port, at: ports + 2)
        guard let checksum else { return }
        let old = raw.uint16(at: checksum)
        let isUDP = if case .udp = content { true } else { false }
        // A datagram may have none (RFC 768).
        if isUDP, old == 0 { return }
        let after = Self.sum(raw.slice(header + 12, 8)) + Self.sum(raw.slice(ports, 4))
        // RFC 1624 section 3, equation 3: HC' = ~(~HC + ~m + m'). The sums are folded, so ~m is 0xFFFF - m.
        let new = ~Self.folded(UInt64(~old) + UInt64(0xFFFF - Self.folded(before)) + after)
        bytes.store(isUDP && new == 0 ? 0xFFFF : new, at: checksum)
    }

    private func storeChecksum(of range: Range<Int>, at offset: Int) {
        bytes.store(UInt16(0), at: offset)
        bytes.store(Self.checksum(UnsafeRawBufferPointer(bytes).slice(range.lowerBound, range.count)), at: offset)
    }

    // MARK: Arithmetic

    static let icmpProtocol: UInt8 = 1
    static let tcpProtocol: UInt8 = 6
    static let udpProtocol: UInt8 = 17

    /// The internet checksum (RFC 1071); 0 for what holds its right one.
    static func checksum(_ bytes: UnsafeRawBufferPointer, startingAt sum: UInt64 = 0) -> UInt16 {
        ~folded(sum + self.sum(bytes))
    }

    static func sum(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var sum: UInt64 = 0
        var offset = 0
        while offset + 1 < bytes.count {
            sum += UInt64(bytes.uint16(at: offset))
            offset += 2
        }
        if offset < bytes.count { sum += UInt64(bytes[offset]) << 8 }
        return sum
    }

    private static func folded(_ sum: UInt64) -> UInt16 {
        var sum = sum
        while sum > 0xFFFF { sum = sum & 0xFFFF + sum >> 16 }
        return UInt16(truncatingIfNeeded: sum)
    }

    /// - Returns: nil where it is no header of IPv4, or is cut short.
    private static func headerBytes(_ bytes: UnsafeRawBufferPointer) -> Int? {
        guard bytes.count >= 20, bytes[0] >> 4 == 4 else { return nil }
        let count = Int(bytes[0] & 0x0F) * 4
        return count >= 20 && count <= bytes.count ? count : nil
    }
}

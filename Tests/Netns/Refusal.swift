import Lab
import STUN

/// What a NAT that rejects answers to a packet that nobody asked for.
enum Refusal {
    /// - Returns: a packet to its sender; nil where none is due.
    static func answer(to refused: IPv4Packet) -> [UInt8]? {
        let packet = refused.packet
        switch packet.body {
        case .segment(var segment):
            segment.payload = [UInt8](repeating: 0, count: max(0, refused.segmentPayloadBytes))
            guard let reset = segment.reset else { return nil }
            return self.reset(reset, from: packet.destination, to: packet.source)
        case .datagram:
            return unreachable(
                about: UnsafeRawBufferPointer(refused.bytes),
                from: packet.destination,
                to: packet.source
            )
        case .problem: return nil
        }
    }

    private static func reset(_ segment: Segment, from source: Endpoint, to destination: Endpoint) -> [UInt8] {
        make(IPv4Packet.tcpProtocol, from: source.address, to: destination.address, count: 20) { tcp in
            tcp.store(source.port, at: 0)
            tcp.store(destination.port, at: 2)
            tcp.store(UInt32(truncatingIfNeeded: segment.sequence), at: 4)
            tcp.store(UInt32(truncatingIfNeeded: segment.acknowledgement), at: 8)
            tcp[12] = 5 << 4
            tcp[13] = segment.flags.rawValue
            // RFC 9293 section 3.1: over a header made of both addresses, the protocol and the length.
            var pseudo = UInt64(IPv4Packet.tcpProtocol) + 20
            for address in [source.address.v4, destination.address.v4] {
                pseudo += UInt64(address >> 16) + UInt64(address & 0xFFFF)
            }
            tcp.store(IPv4Packet.checksum(UnsafeRawBufferPointer(tcp), startingAt: pseudo), at: 16)
        }
    }

    /// RFC 792: the header of what is complained of and eight bytes behind it.
    private static func unreachable(
        about bytes: UnsafeRawBufferPointer,
        from source: Endpoint,
        to destination: Endpoint
    ) -> [UInt8] {
        let quoted = bytes.prefix(Int(bytes[0] & 0x0F) * 4 + 8)
        return make(IPv4Packet.icmpProtocol, from: source.address, to: destination.address, count: 8 + quoted.count) {
            icmp in
            (icmp[0], icmp[1]) = (3, 3)
            for (offset, byte) in quoted.enumerated() { icmp[8 + offset] = byte }
            icmp.store(IPv4Packet.checksum(UnsafeRawBufferPointer(icmp)), at: 2)
        }
    }

    private static func make(
        _ number: UInt8,
        from source: IPAddress,
        to destination: IPAddress,
        count: Int,
        _ fill: (UnsafeMutableRawBufferPointer) -> Void
    ) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 20 + count)
        bytes.withUnsafeMutableBytes { bytes in
            bytes[0] = 0x45
            bytes.store(UInt16(20 + count), at: 2)
            (bytes[8], bytes[9]) = (64, number)
            bytes.store(source.v4, at: 12)
            bytes.store(destination.v4, at: 16)
            bytes.store(IPv4Packet.checksum(UnsafeRawBufferPointer(rebasing: bytes[..<20])), at: 10)
            fill(UnsafeMutableRawBufferPointer(rebasing: bytes[20...]))
        }
        return bytes
    }
}

import Lab
import STUN
import Testing

@testable import Netns

@Suite struct IPv4PacketTests {
    /// A packet with right checksums.
    private static func packet(_ number: UInt8, _ payload: [UInt8], checksumAt offset: Int?) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 20) + payload
        bytes.withUnsafeMutableBytes { bytes in
            bytes[0] = 0x45
            bytes.store(UInt16(bytes.count), at: 2)
            (bytes[8], bytes[9]) = (64, number)
            bytes.store(IPAddress("192.168.1.2").v4, at: 12)
            bytes.store(IPAddress("203.0.113.10").v4, at: 16)
            bytes.store(IPv4Packet.checksum(UnsafeRawBufferPointer(rebasing: bytes[..<20])), at: 10)
            if let offset { bytes.store(transportChecksum(UnsafeRawBufferPointer(bytes)), at: 20 + offset) }
        }
        return bytes
    }

    /// 0 where it holds its right checksum.
    private static func transportChecksum(_ bytes: UnsafeRawBufferPointer) -> UInt16 {
        let pseudo = IPv4Packet.sum(bytes.slice(12, 8)) + UInt64(bytes[9]) + UInt64(bytes.count - 20)
        return IPv4Packet.checksum(bytes.slice(20, bytes.count - 20), startingAt: pseudo)
    }

    private static func datagram(_ text: String, checksum: Bool = true) -> [UInt8] {
        let payload: [UInt8] = [0x12, 0x34, 0x0D, 0x96, 0, UInt8(8 + text.utf8.count), 0, 0] + Array(text.utf8)
        return packet(IPv4Packet.udpProtocol, payload, checksumAt: checksum ? 6 : nil)
    }

    private static let segment: [UInt8] = packet(
        IPv4Packet.tcpProtocol,
        [0x12, 0x34, 0x01, 0xBB, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, 0x12, 0xFF, 0xFF, 0, 0, 0, 0] + Array("odd".utf8),
        checksumAt: 16
    )

    /// Destination unreachable, about a datagram that 203.0.113.10 sent.
    private static let problem: [UInt8] = {
        var bytes = packet(IPv4Packet.icmpProtocol, [3, 3, 0, 0, 0, 0, 0, 0] + datagram("ab"), checksumAt: nil)
        bytes.withUnsafeMutableBytes { bytes in
            bytes.store(IPv4Packet.checksum(UnsafeRawBufferPointer(rebasing: bytes[20...])), at: 22)
        }
        return bytes
    }()

    @Test(arguments: [datagram("hello"), datagram("x"), datagram(""), segment])
    func aTranslatedPacketHasItsNewEndpointsAndRightChecksums(bytes: [UInt8]) throws {
        var dice = Dice(seed: 3)
        var bytes = bytes
        for _ in 0..<2_000 {
            let source = Endpoint(IPAddress(v4: UInt32(truncatingIfNeeded: dice.next())), dice.port(0...65_535))
            let destination = Endpoint(IPAddress(v4: UInt32(truncatingIfNeeded: dice.next())), dice.port(0...65_535))
            try bytes.withUnsafeMutableBytes { bytes in
                let real = try #require(IPv4Packet(bytes))
                var packet = real.packet
                (packet.source, packet.destination) = (source, destination)
                real.rewrite(as: packet)
                let again = try #require(IPv4Packet(bytes)).packet
                #expect(again.source == source && again.destination == destination)
                #expect(Self.transportChecksum(UnsafeRawBufferPointer(bytes)) == 0)
            }
        }
    }

    @Test func aDatagramWithoutAChecksumGetsNone() throws {
        var bytes = Self.datagram("hello", checksum: false)
        try bytes.withUnsafeMutableBytes { bytes in
            let real = try #require(IPv4Packet(bytes))
            var packet = real.packet
            packet.source = Endpoint("198.51.100.1", 99)
            real.rewrite(as: packet)
        }
        #expect(bytes[26] == 0 && bytes[27] == 0)
    }

    private struct NoProblem: Error {}

    @Test func ofAnErrorTheQuotedPacketIsTranslatedToo() throws {
        var bytes = Self.problem
        try bytes.withUnsafeMutableBytes { bytes in
            let real = try #require(IPv4Packet(bytes))
            var packet = real.packet
            guard case .problem(var problem) = packet.body else { throw NoProblem() }
            #expect(problem.kind == .portUnreachable && problem.transport == .udp)
            #expect(problem.source == Endpoint("192.168.1.2", 0x1234))
            problem.source = Endpoint("10.0.0.9", 77)
            packet.destination.address = IPAddress("10.0.0.9")
            packet.body = .problem(problem)
            real.rewrite(as: packet)
            let again = try #require(IPv4Packet(bytes)).packet
            guard case .problem(let seen) = again.body else { throw NoProblem() }
            #expect(seen == problem && again.destination.address == IPAddress("10.0.0.9"))
            #expect(IPv4Packet.checksum(UnsafeRawBufferPointer(rebasing: bytes[20...])) == 0)
            #expect(IPv4Packet.checksum(UnsafeRawBufferPointer(rebasing: bytes[28..<48])) == 0)
        }
    }

    @Test func aRefusalIsAWholePacketToTheSender() throws {
        for (bytes, number) in [(Self.segment, IPv4Packet.tcpProtocol), (Self.datagram("hi"), IPv4Packet.icmpProtocol)]
        {
            var bytes = bytes
            let made = bytes.withUnsafeMutableBytes { IPv4Packet($0).flatMap { Refusal.answer(to: $0) } }
            var answer = try #require(made)
            #expect(answer[9] == number)
            try answer.withUnsafeMutableBytes { answer in
                let packet = try #require(IPv4Packet(answer)).packet
                #expect(packet.destination.address == IPAddress("192.168.1.2"))
                switch packet.body {
                case .segment(let reset):
                    #expect(reset.flags.contains(.rst) && reset.sequence == 9)
                    #expect(Self.transportChecksum(UnsafeRawBufferPointer(answer)) == 0)
                case .problem(let problem): #expect(problem.source == Endpoint("192.168.1.2", 0x1234))
                case .datagram: Issue.record("\(packet)")
                }
            }
        }
    }

    /// What is changed at random, or cut short, is refused or translated within its bounds.
    @Test func noInputIsReadOrWrittenBeyondItsEnd() {
        var dice = Dice(seed: 11)
        var refused = 0
        for round in 0..<60_000 {
            var bytes = [Self.datagram("hello"), Self.segment, Self.problem][round % 3]
            for _ in 0..<dice.below(4) { bytes[Int(dice.below(UInt64(bytes.count)))] = UInt8(dice.below(256)) }
            let count = dice.chance(0.5) ? bytes.count : Int(dice.below(UInt64(bytes.count)))
            // The header's checksum made right again lets more of them in.
            bytes.withUnsafeMutableBytes { all in
                let header = Int(all[0] & 0x0F) * 4
                if dice.chance(0.8), header >= 20, header <= count {
                    all.store(UInt16(0), at: 10)
                    all.store(IPv4Packet.checksum(UnsafeRawBufferPointer(rebasing: all[..<header])), at: 10)
                }
                guard let real = IPv4Packet(UnsafeMutableRawBufferPointer(rebasing: all[..<count])) else {
                    return refused += 1
                }
                real.rewrite(as: real.packet)
                _ = Refusal.answer(to: real)
            }
        }
        #expect(refused > 10_000 && refused < 59_000)
    }
}

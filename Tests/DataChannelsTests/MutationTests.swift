import DataChannels
import Foundation
import TestSupport
import Testing

@Suite(.serialized) struct MutationTests {
    /// The peer is known by its certificate, and may still be hostile: its packets are changed, and their checksums
    /// made right again.
    @Test func mutatedPacketsDoNoHarm() async throws {
        var random = SeededGenerator(for: "SCTP")
        let rounds = fuzzRounds(600)
        try await SCTPTime.virtual {
            let before = SCTPStack.shared.associationCount
            var mutated = 0
            var early: Int?
            while mutated < rounds {
                if early == nil, mutated > rounds / 10 { early = residentBytes() }
                let pair = try PeerPair.connected(seed: random.next())
                var random = SeededGenerator(seed: random.next())
                pair.tamper = { packet in
                    guard packet.count > 12, Int.random(in: 0..<4, using: &random) == 0 else { return }
                    mutated += 1
                    var body = Array(packet[12...])
                    for _ in 0..<Int.random(in: 1...3, using: &random) { mutate(&body, using: &random) }
                    packet = sealed(packet[..<8] + [0, 0, 0, 0] + body)
                }
                var talk = SeededGenerator(seed: random.next())
                self.talk(pair, using: &talk)
            }
            #expect(SCTPStack.shared.associationCount == before)
            // Where few rounds run, other tests run beside them.
            if rounds >= 100_000, let early { #expect(residentBytes() - early < 32 * 1_048_576) }
        }
    }

    /// Opens, sends on and closes channels of all kinds, for a while or until the association breaks.
    private func talk(_ pair: PeerPair, using random: inout SeededGenerator) {
        for _ in 0..<20 {
            for side in PeerPair.Side.allCases {
                var configuration = DataChannelConfiguration(label: "label")
                configuration.isOrdered = .random(using: &random)
                configuration.reliability =
                    [.reliable, .maxRetransmits(1), .maxLifetime(5)].randomElement(using: &random) ?? .reliable
                let channel = try? pair[side].openChannel(configuration)
                for id in [channel?.id ?? 0, 0, 1] {
                    _ = pair[side].send(pattern(.random(in: 0...2_000, using: &random), seed: 1), on: id)
                }
                if Bool.random(using: &random) { pair[side].closeChannel(.random(in: 0..<8, using: &random)) }
            }
            pair.run(for: 30)
        }
        if Bool.random(using: &random) { pair.client.shutdown() }
        pair.run(for: 200)
    }

    @Test func whatIsNoPacketIsIgnored() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            for count in [0, 1, 11, 12, 13, 16, 28, 1_500, 16_384, 16_385, 70_000] {
                for byte in [UInt8(0), 0xFF] {
                    let packet = [UInt8](repeating: byte, count: count)
                    packet.withUnsafeBytes { pair.client.receive($0) }
                    sealed(packet).withUnsafeBytes { pair.client.receive($0) }
                }
            }
            let channel = try pair.client.openChannel(.init(label: "x"))
            #expect(pair.client.send([1], on: channel.id) == .sent)
            #expect(pair.run(for: 1_000) { $0.messages(channel.id, .server) == [[1]] })
        }
    }
}

private func residentBytes() -> Int {
    let words = (try? String(contentsOfFile: "/proc/self/statm", encoding: .ascii))?.split(separator: " ") ?? []
    return (words.count > 1 ? Int(words[1]) ?? 0 : 0) * 4_096
}

/// Puts the CRC32c of RFC 9260 appendix A into a packet whose checksum is zero.
func sealed(_ packet: [UInt8]) -> [UInt8] {
    guard packet.count >= 12 else { return packet }
    var crc = UInt32.max
    for byte in packet { crc = checksumTable[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] ^ crc >> 8 }
    var packet = packet
    for index in 0..<4 { packet[8 + index] = UInt8(truncatingIfNeeded: ~crc >> UInt32(8 * index)) }
    return packet
}

private let checksumTable: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 0 ? value >> 1 : value >> 1 ^ 0x82F6_3B78 }
}

import COpenSSL
import TestSupport
import Testing

@testable import OpenSSLCrypto

/// Datagrams changed by their format: the numbers of records and of fragments of the handshake, so that what they frame
/// is looked at.
struct DTLSFormatFuzzTests {
    @Test func outlivesRecordsAndFragmentsThatLie() throws {
        var random = SeededGenerator(for: "DTLS by its format")
        ERR_clear_error()
        let identities = [try PeerIdentity(), try PeerIdentity()]
        let limit = fuzzRounds(3_000)
        var changed = 0
        var established = 0
        // Of sessions before: what is said there is no use to this one.
        var foreign: [[UInt8]] = []
        while changed < limit {
            let client = try session(.client, identities, &random)
            let server = try session(.server, identities, &random)
            let share = Int.random(in: 2...30, using: &random)
            var wire = Wire(seed: random.next())
            (wire.repeatPercent, wire.delayPercent, wire.lossPercent) = (10, 15, 5)
            let others = foreign
            wire.tamper = { datagram, dice in
                guard Int.random(in: 0..<share, using: &dice) == 0 else { return }
                changed += 1
                Self.change(&datagram, others, &dice)
            }
            client.advance()
            for turn in UInt8(0)..<30 {
                _ = client.send([0xA5, turn])
                _ = server.send([0xA5, turn])
                let received = wire.carry(client, server)
                let isClean = (received.first + received.second).allSatisfy { $0.count == 2 && $0[0] == 0xA5 }
                #expect(isClean)
                // Of twelve flights that are lost the last one ends a session.
                guard turn % 3 == 2 else { continue }
                client.handleTimeout()
                server.handleTimeout()
            }
            if client.state == .established && server.state == .established {
                established += 1
                open(wire.sent, in: client, &random)
            }
            foreign = Array((wire.sent.shuffled(using: &random) + foreign).prefix(30))
        }
        #expect(established > 0)
        #expect(ERR_peek_error() == 0)
    }

    /// As the client's link opens records: where they lie, into a target that may be short.
    private func open(_ datagrams: [[UInt8]], in session: DTLSSession, _ random: inout SeededGenerator) {
        var target = [UInt8](repeating: 0, count: [16, 1_200, 17_000].randomElement(using: &random) ?? 16)
        for datagram in datagrams.shuffled(using: &random).prefix(8) {
            datagram.withUnsafeBytes { datagram in
                target.withUnsafeMutableBytes { target in
                    guard session.open(datagram, into: target) > 0 else { return }
                    while session.read(into: target) > 0 {}
                }
            }
        }
    }

    private func session(
        _ role: DTLSRole,
        _ identities: [PeerIdentity],
        _ random: inout SeededGenerator
    ) throws -> DTLSSession {
        let (own, other) = role == .client ? (identities[0], identities[1]) : (identities[1], identities[0])
        return try DTLSSession(
            peer: role,
            identity: own,
            expecting: [other.fingerprint],
            packetLimitBytes: [256, 600, 1_200].randomElement(using: &random) ?? 1_200,
            // Sometimes a flight goes out again at every look.
            firstTimeoutMicroseconds: [200, 1_000_000].randomElement(using: &random) ?? 200
        )
    }

    private static func change(_ datagram: inout [UInt8], _ foreign: [[UInt8]], _ dice: inout SeededGenerator) {
        for _ in 0..<Int.random(in: 1...2, using: &dice) {
            let starts = records(in: datagram)
            guard let start = starts.randomElement(using: &dice) else { return mutate(&datagram, &dice) }
            switch Int.random(in: 0..<9, using: &dice) {
            // Type, version, epoch, sequence number and length of a record.
            case 0: datagram[start] = [20, 21, 22, 23, 24, 25].randomElement(using: &dice) ?? 22
            case 1: datagram[start + 3 + Int.random(in: 0..<2, using: &dice)] = extreme(&dice)
            case 2: datagram[start + 5 + Int.random(in: 0..<6, using: &dice)] = extreme(&dice)
            case 3: datagram[start + 11 + Int.random(in: 0..<2, using: &dice)] = extreme(&dice)
            // Type, length, number, and place of a fragment (RFC 6347 section 4.2.2).
            case 4...5:
                let place = start + 13 + Int.random(in: 0..<12, using: &dice)
                if place < datagram.count { datagram[place] = extreme(&dice) }
            // The contents: extensions, certificates, signatures.
            case 6:
                let end = min(datagram.count, start + 400)
                if start + 25 < end { datagram[.random(in: (start + 25)..<end, using: &dice)] = extreme(&dice) }
            // Records of another session, or these in another order.
            case 7: datagram += foreign.randomElement(using: &dice) ?? []
            default: datagram = Array(datagram[start...]) + datagram[..<start]
            }
        }
    }

    private static func extreme(_ dice: inout SeededGenerator) -> UInt8 {
        [0, 1, 2, 3, 0x0E, 0x10, 0x7F, 0x80, 0xFF, .random(in: .min ... .max, using: &dice)]
            .randomElement(using: &dice) ?? 0
    }

    /// Where they begin, as far as the lengths lead.
    private static func records(in datagram: [UInt8]) -> [Int] {
        var starts: [Int] = []
        var offset = 0
        while offset + DTLSRecordHeader.length <= datagram.count {
            starts.append(offset)
            offset += DTLSRecordHeader.length + Int(datagram[offset + 11]) << 8 + Int(datagram[offset + 12])
        }
        return starts
    }
}

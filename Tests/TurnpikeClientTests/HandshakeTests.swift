import OpenSSLCrypto
import STUN
import TestSupport
import Testing
import Traversal

@testable import TurnpikeClient

/// What of a handshake goes by which name, and what is sent again on the next path.
@Suite struct HandshakeTests {
    private let cryptography: any Cryptography

    init() throws { cryptography = try OpenSSLCryptography() }

    private func envelope(_ record: [UInt8], to fragment: String = "abcd", from sender: String = "efgh") -> [UInt8] {
        record.withUnsafeBytes { HandshakeEnvelope.seal($0, to: fragment, from: sender, cryptography) }
    }

    @Test func aRecordComesOutAsItWentIn() throws {
        for count in [1, 2, 3, 4, 1_080, 1_200] {
            let record = [22] + Array(repeating: UInt8(7), count: count - 1)
            try envelope(record).withUnsafeBytes { bytes in
                #expect(Demultiplexer.kind(bytes) == .stun)
                let opened = try #require(HandshakeEnvelope.open(bytes))
                #expect(opened.fragment == "abcd")
                #expect(Array(opened.record) == record)
            }
        }
    }

    /// With the fragments that this agent and browsers draw.
    @Test func theLongestRecordFitsIntoTheLongestDatagram() {
        let record = Array(repeating: UInt8(22), count: ClientLimits.handshakeBytes)
        let own = ICEAgent(role: .controlling, cryptography: cryptography).localCredentials.usernameFragment
        #expect(envelope(record, to: own, from: own).count <= ClientLimits.datagramBytes)
    }

    @Test func whatIsCutOrNamesNobodyIsNoEnvelope() {
        let whole = envelope([22, 254, 253])
        for count in 0..<whole.count {
            whole[..<count].withUnsafeBytes { #expect(HandshakeEnvelope.open($0) == nil) }
        }
        // Neither a STUN message nor data of another kind may come out.
        envelope([1, 2, 3]).withUnsafeBytes { #expect(HandshakeEnvelope.open($0) == nil) }
        envelope([], to: "abcd").withUnsafeBytes { #expect(HandshakeEnvelope.open($0) == nil) }
    }

    /// Whatever comes out is a record that lies within what came in.
    @Test func mutatedEnvelopesDoNoHarm() throws {
        var random = SeededGenerator(for: "mutatedEnvelopesDoNoHarm")
        let record = Array(repeating: UInt8(22), count: 300)
        let samples = [envelope([22, 254, 253]), envelope(record), envelope(record, to: "", from: "")]
        let rounds = fuzzRounds(20_000)
        var opened = 0
        for _ in 0..<rounds {
            var bytes = samples.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 1...3, using: &random) { mutate(&bytes, &random) }
            if Bool.random(using: &random), bytes.count >= 20 {
                // The header's length made right again, so that what lies inside is looked at.
                bytes.removeLast(bytes.count % 4)
                bytes[2] = UInt8(truncatingIfNeeded: (bytes.count - 20) >> 8)
                bytes[3] = UInt8(truncatingIfNeeded: bytes.count - 20)
            }
            let length = bytes.count
            bytes.withUnsafeBytes { bytes in
                guard let (fragment, record) = HandshakeEnvelope.open(bytes) else { return }
                opened += 1
                #expect(20...63 ~= record.first ?? 0 && record.count < length)
                // Each byte that is no UTF-8 becomes three.
                #expect(fragment.utf8.count <= 3 * ClientLimits.checkUsernameBytes)
            }
        }
        #expect(opened > rounds / 100)
    }

    @Test func recordsAreOverdueOnlyAfterSilence() {
        var records = UnansweredRecords()
        let second = ClientLimits.second
        #expect(!records.areOverdue(now: 10 * second))
        [UInt8]([23, 1]).withUnsafeBytes { records.append($0, now: 10 * second) }
        [UInt8]([23, 2]).withUnsafeBytes { records.append($0, now: 11 * second) }
        #expect(!records.areOverdue(now: 10 * second + ClientLimits.silence - 1))
        #expect(records.areOverdue(now: 10 * second + ClientLimits.silence))
        var sent: [[UInt8]] = []
        records.forEach { sent.append(Array($0)) }
        #expect(sent == [[23, 1], [23, 2]])
        records.clear()
        #expect(!records.areOverdue(now: 20 * second))
    }

    @Test func theFirstRecordsAreKeptAndNoMoreThanTheLimit() {
        var records = UnansweredRecords()
        for number in 0..<200 { [23, UInt8(number)].withUnsafeBytes { records.append($0, now: 1) } }
        var sent: [UInt8] = []
        records.forEach { sent.append($0[1]) }
        #expect(sent == (0..<UInt8(ClientLimits.unansweredRecords)).map { $0 })
    }
}

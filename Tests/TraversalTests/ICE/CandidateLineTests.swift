import STUN
import TestSupport
import Testing
import Traversal

@Suite struct CandidateLineTests {
    /// As Chromium, Firefox, libdatachannel and pion write them.
    @Test(arguments: [
        "candidate:842163049 1 udp 1677729535 203.0.113.7 50123 typ srflx raddr 192.0.2.4 rport 50123 generation 0 "
            + "ufrag Ab3d network-id 1 network-cost 10",
        "candidate:0 1 udp 2122252543 8e4b0a0c-7e4e-4d6a-b5ea-2f4a4f2a9a11.local 51432 typ host",
        "candidate:1 1 udp 2130706431 2001:db8::1 5000 typ host",
        "candidate:2 1 udp 16777215 198.51.100.1 60000 typ relay raddr 0.0.0.0 rport 9",
        "candidate:3 1 tcp 1518280447 192.0.2.4 9 typ host tcptype active generation 0",
        "candidate:4 1 tcp 1509957375 192.0.2.4 4444 typ host tcptype passive",
        "candidate:5 1 tcp 1509957375 192.0.2.4 4444 typ host tcptype so",
    ])
    func linesOfBrowsersAreReadAndWrittenAlike(line: String) throws {
        #expect(CandidateLine.text(try CandidateLine.parse(line)) == line)
        #expect(try CandidateLine.parse("a=" + line) == CandidateLine.parse(line))
    }

    @Test func everyFieldIsRead() throws {
        let candidate = try CandidateLine.parse(
            "candidate:a+/1 2 UDP 7 [::1]".replacing("[::1]", with: "::1")
                + " 9 typ prflx x-new value rport 8 raddr 10.0.0.1 ufrag abcd generation 4294967295 network-cost 999"
        )
        #expect(candidate.foundation == "a+/1" && candidate.component == 2 && candidate.priority == 7)
        #expect(candidate.endpoint == Endpoint(address: IPAddress(high: 0, low: 1), port: 9))
        #expect(candidate.type == .peerReflexive && candidate.transport == .udp)
        #expect(candidate.related == Endpoint(address: IPAddress(v4: 0x0A00_0001), port: 8))
        #expect(candidate.usernameFragment == "abcd" && candidate.generation == .max && candidate.networkCost == 999)
    }

    @Test(arguments: [
        ("", CandidateLineError.noCandidate), ("1 1 udp 1 1.2.3.4 5 typ host", .noCandidate),
        ("candidate:1 1 udp 1 1.2.3.4 5 typ", .tooShort),
        ("candidate: 1 udp 1 1.2.3.4 5 typ host", .foundation),
        ("candidate:a*b 1 udp 1 1.2.3.4 5 typ host", .foundation),
        ("candidate:123456789012345678901234567890123 1 udp 1 1.2.3.4 5 typ host", .foundation),
        ("candidate:1 0 udp 1 1.2.3.4 5 typ host", .component),
        ("candidate:1 257 udp 1 1.2.3.4 5 typ host", .component),
        ("candidate:1 +1 udp 1 1.2.3.4 5 typ host", .component),
        ("candidate:1 1 sctp 1 1.2.3.4 5 typ host", .transport), ("candidate:1 1 tcp 1 1.2.3.4 5 typ host", .transport),
        ("candidate:1 1 udp 1 1.2.3.4 5 typ host tcptype active", .transport),
        ("candidate:1 1 udp 0 1.2.3.4 5 typ host", .priority),
        ("candidate:1 1 udp 2147483648 1.2.3.4 5 typ host", .priority),
        ("candidate:1 1 udp 1 1.2.3.256 5 typ host", .address), ("candidate:1 1 udp 1 1.2.3 5 typ host", .address),
        ("candidate:1 1 udp 1 01.2.3.4 5 typ host", .address), ("candidate:1 1 udp 1 1::2::3 5 typ host", .address),
        ("candidate:1 1 udp 1 fe80::1%eth0 5 typ host", .address),
        ("candidate:1 1 udp 1 -a.local 5 typ host", .address),
        ("candidate:1 1 udp 1 1.2.3.4 65536 typ host", .port), ("candidate:1 1 udp 1 1.2.3.4 0 typ host", .port),
        ("candidate:1 1 udp 1 1.2.3.4 5 typ hostess", .type), ("candidate:1 1 udp 1 1.2.3.4 5 kind host", .type),
        ("candidate:1 1 udp 1 1.2.3.4 5 typ host a", .extensions),
        ("candidate:1 1 udp 1 1.2.3.4 5 typ host  a", .extensions),
        ("candidate:1 1 udp 1 1.2.3.4 5 typ host a b a c", .extensions),
        ("candidate:1 1 udp 1 1.2.3.4 5 typ host ufrag abc", .extensions),
        ("candidate:1 1 udp 1 1.2.3.4 5 typ host generation -1", .extensions),
        ("candidate:1 1 udp 1 1.2.3.4 5 typ host x \r\ny", .extensions),
    ])
    func whatIsNotAsTheGrammarHasItIsRefused(line: String, error: CandidateLineError) {
        #expect(throws: error) { try CandidateLine.parse(line) }
    }

    @Test func longLinesAreRefused() {
        let line = "candidate:1 1 udp 1 1.2.3.4 5 typ host"
        let many = (0..<17).map { " a\($0) b" }.joined()
        #expect(throws: CandidateLineError.extensions) { try CandidateLine.parse(line + many) }
        let long = " a " + String(repeating: "x", count: ICELimits.candidateLineBytes)
        #expect(throws: CandidateLineError.tooLong) { try CandidateLine.parse(line + long) }
    }

    @Test(
        arguments: [
            ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            ("1:0:2:0:3:0:4:0", "1:0:2:0:3:0:4:0"), ("::ffff:192.0.2.1", "::ffff:c000:201"), ("1:2:3:4:5:6:7::", nil),
            ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("1:2:3:4:5:6:7:8:9", nil), ("1:2:3", nil), (":1::", nil),
            ("1:::2", nil),
            ("12345::", nil), ("g::", nil), ("1.2.3.4::", nil), ("192.0.2.1", "192.0.2.1"), ("1.2.3.4.5", nil),
            ("", nil),
            ("1.2.3.-4", nil), ("1::2.3.4.5", "1::203:405"),
        ] as [(String, String?)]
    )
    func addressesAreReadAndWrittenCanonically(text: String, canonical: String?) {
        let address = AddressText.address(text)
        if text == "1:2:3:4:5:6:7::" {
            // One group of zeros may be shortened in what is read (RFC 4291 section 2.2), never in what is written.
            #expect(address.map(AddressText.text) == "1:2:3:4:5:6:7:0")
        } else {
            #expect(address.map(AddressText.text) == canonical)
        }
    }

    @Test func noMutatedLineTrapsAndWhatIsReadIsWrittenAndReadAgain() throws {
        var generator = SeededGenerator(for: "noMutatedLineTraps")
        let lines = [
            "candidate:842163049 1 udp 1677729535 203.0.113.7 50123 typ srflx raddr 192.0.2.4 rport 5 generation 0 "
                + "ufrag Ab3d",
            "candidate:1 1 tcp 2130706431 2001:db8::1 5000 typ host tcptype passive network-id 1 network-cost 50",
            "a=candidate:0 1 udp 2122252543 8e4b0a0c-7e4e.local 51432 typ host",
        ].map { Array($0.utf8) }
        var read = 0
        for _ in 0..<fuzzRounds(85_000) {
            var bytes = lines[Int.random(in: 0..<lines.count, using: &generator)]
            for _ in 0..<Int.random(in: 1...3, using: &generator) where !bytes.isEmpty {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<5, using: &generator) {
                case 0: bytes[place] = UInt8.random(in: .min ... .max, using: &generator)
                case 1: bytes[place] = Array("0123456789:. -".utf8).randomElement(using: &generator) ?? 0
                case 2: bytes.remove(at: place)
                case 3: bytes.insert(bytes[place], at: place)
                default: bytes.removeSubrange(place...)
                }
            }
            guard let candidate = try? CandidateLine.parse(String(decoding: bytes, as: UTF8.self)) else { continue }
            read += 1
            let again = try CandidateLine.parse(CandidateLine.text(candidate))
            #expect(CandidateLine.text(again) == CandidateLine.text(candidate))
        }
        #expect(read > 1_000)
    }
}

import DataChannels
import TestSupport
import Testing

@Suite struct SessionDescriptionTests {
    @Test(arguments: SampleDescription.all)
    func whatOthersWriteIsRead(sample: SampleDescription) throws {
        let description = try SessionDescription(parsing: sample.text)
        let data = try #require(description.data)
        #expect(data.mid == sample.mid)
        #expect(data.transport.iceUfrag == sample.ufrag)
        #expect(data.transport.icePassword.count >= 22)
        #expect(data.transport.setup == sample.setup)
        #expect(data.transport.candidates.count == sample.candidates)
        #expect(data.transport.hasAllCandidates == sample.hasAllCandidates)
        #expect(data.transport.fingerprints.first?.hashFunction == "sha-256")
        #expect(data.transport.fingerprints.first?.digest.count == 32)
        #expect(data.maxMessageBytes == sample.maxMessageBytes)
        #expect(data.sctpPort == 5_000)
    }

    @Test(arguments: SampleDescription.all)
    func whatIsWrittenIsReadAsTheSame(sample: SampleDescription) throws {
        let description = try SessionDescription(parsing: sample.text)
        #expect(try SessionDescription(parsing: description.text) == description)
    }

    @Test func anOfferIsWrittenAsBrowsersDo() {
        var transport = Self.transport(.either)
        transport.candidates = ["candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host"]
        transport.hasAllCandidates = true
        let offer = SessionDescription(sessionID: 42, offering: transport, maxMessageBytes: 262_144)
        let expected = [
            "v=0", "o=- 42 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0",
            "a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host", "a=end-of-candidates", "a=ice-ufrag:abcd",
            "a=ice-pwd:0123456789abcdefghijkl", "a=ice-options:trickle ice2 renomination",
            "a=fingerprint:sha-256 " + Array(repeating: "0A", count: 32).joined(separator: ":"), "a=setup:actpass",
            "a=mid:0", "a=sctp-port:5000", "a=max-message-size:262144", "",
        ]
        #expect(offer.text == expected.joined(separator: "\r\n"))
    }

    /// RFC 3264 section 6: one section for each of the offer's, in its order, and port 0 for what is not taken.
    @Test func anAnswerTurnsDownWhatIsNotData() throws {
        let offer = try SessionDescription(parsing: SampleDescription.chromiumWithVideo.text)
        let answer = try #require(
            offer.answer(sessionID: 7, transport: Self.transport(.active), maxMessageBytes: 100_000)
        )
        let lines = answer.text.split(separator: "\r\n")
        #expect(
            lines.filter { $0.hasPrefix("m=") }.map(String.init) == [
                "m=audio 0 UDP/TLS/RTP/SAVPF 111 0", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
                "m=video 0 UDP/TLS/RTP/SAVPF 96 97",
            ]
        )
        #expect(lines.filter { $0.hasPrefix("a=mid:") } == ["a=mid:audio", "a=mid:data", "a=mid:video"])
        #expect(lines.contains("a=group:BUNDLE data"))
        #expect(lines.count { $0 == "a=inactive" } == 2)
        #expect(lines.contains("a=setup:active"))
        #expect(try SessionDescription(parsing: answer.text).data?.transport.setup == .active)
    }

    @Test func anAnswerHasAGroupOnlyWhereTheOfferHas() throws {
        for (sample, isBundled) in [(SampleDescription.chromium, true), (.oldFirefox, false)] {
            let answer = try SessionDescription(parsing: sample.text)
                .answer(sessionID: 1, transport: Self.transport(.active), maxMessageBytes: 1)
            #expect(answer?.text.contains("a=group:BUNDLE \(sample.mid)\r\n") == isBundled)
            #expect(answer?.text.contains("a=group") == isBundled)
        }
    }

    @Test func anOfferWithoutDataHasNoAnswer() throws {
        let text = Self.head + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n"
        let offer = try SessionDescription(parsing: text)
        #expect(offer.data == nil)
        #expect(offer.answer(sessionID: 1, transport: Self.transport(.active), maxMessageBytes: 1) == nil)
    }

    @Test(arguments: [
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel", "m=application 9 UDP/DTLS/SCTP something-else",
        "m=application 9 UDP/BFCP *",
    ])
    func aSectionThatIsTurnedDownIsNoData(media: String) throws {
        let rest = Self.section.dropFirst().joined(separator: "\r\n")
        #expect(try SessionDescription(parsing: Self.head + media + "\r\n" + rest + "\r\n").data == nil)
    }

    @Test func onlyTheFirstDataSectionIsAnswered() throws {
        let second = Self.section.map { $0 == "a=mid:0" ? "a=mid:1" : $0 }
        let text = Self.head + (Self.section + second).map { $0 + "\r\n" }.joined()
        let answer = try SessionDescription(parsing: text)
            .answer(sessionID: 1, transport: Self.transport(.active), maxMessageBytes: 1)
        let media = answer?.text.split(separator: "\r\n").filter { $0.hasPrefix("m=") }
        #expect(
            media == [
                "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
            ]
        )
    }

    /// RFC 9143: a section that only joins a bundle has its transport in the bundle's first section.
    @Test func aBundledSectionTakesItsTransportFromTheFirst() throws {
        let transport = Self.section.filter { $0.hasPrefix("a=ice") || $0.hasPrefix("a=f") || $0.hasPrefix("a=setup") }
        let lines =
            ["a=group:BUNDLE a d", "m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:a"] + transport + [
                "m=application 0 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:d", "a=bundle-only", "a=sctp-port:5000",
            ]
        let data = try SessionDescription(parsing: Self.head + lines.map { $0 + "\r\n" }.joined()).data
        #expect(data?.transport.iceUfrag == "abcd")
        #expect(data?.maxMessageBytes == 65_536)
    }

    @Test(arguments: [
        ("0", Int.max), ("1", 1), ("1073741823", 1_073_741_823), ("18446744073709551615", .max),
        ("99999999999999999999", .max),
    ])
    func anyMaxMessageSizeIsTaken(value: String, bytes: Int) throws {
        let text = Self.text { $0.hasPrefix("a=max-message-size") ? "a=max-message-size:\(value)" : $0 }
        #expect(try SessionDescription(parsing: text).data?.maxMessageBytes == bytes)
    }

    static let faults: [(String, String, Int, String)] = [
        ("a=setup:actpass", "a=setup:loud", 12, "setup is active, passive, actpass or holdconn, not loud"),
        ("a=setup:actpass", "setup", 12, "does not begin with a letter and an equals sign"),
        ("a=setup:actpass", "", 12, "does not begin with a letter and an equals sign"),
        ("a=setup:actpass", "a=mid:0\r\na=mid:1", 13, "says again what stands above it"),
        ("a=setup:actpass", "j=1", 12, "no line of SDP begins with j="),
        ("a=setup:actpass", "t=0 0", 12, "a t= line stands below an m= line"),
        ("a=setup:actpass", "a=x:\u{1}", 12, "has a control character"),
        ("a=ice-ufrag:abcd", "a=ice-ufrag:abc", 8, "has to have 4 to 256 letters, digits, + and /"),
        ("a=ice-ufrag:abcd", "a=ice-ufrag:ab cd", 8, "has to have 4 to 256 letters, digits, + and /"),
        ("a=ice-pwd:0123456789abcdefghijkl", "a=ice-pwd:short", 9, "has to have 22 to 256 letters, digits, + and /"),
        ("a=ice-pwd:0123456789abcdefghijkl", "a=x", 6, "the section has no ice-ufrag or no ice-pwd"),
        ("a=sctp-port:5000", "a=sctp-port:70000", 14, "70000 is no SCTP port"),
        ("a=max-message-size:262144", "a=max-message-size:-1", 15, "-1 is no number of bytes"),
        ("v=0", "v=1", 1, "names version 1: only 0 is known"),
        ("v=0", "o=0", 1, "is not the v= line"),
        (
            "o=- 1 2 IN IP4 127.0.0.1", "o=- x 2 IN IP4 127.0.0.1", 2,
            "has a session or a version that is no number of 64 bits"
        ),
        ("o=- 1 2 IN IP4 127.0.0.1", "o=-", 2, "is not of the form o=USERNAME SESSION VERSION IN IP4|IP6 ADDRESS"),
        ("t=0 0", "a=x", 0, "has no t= line"),
        (
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m=application 9 UDP/DTLS/SCTP", 6,
            "is not of the form m=MEDIA PORT PROTOCOL FORMAT…"
        ),
        (
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m=application 99999 UDP/DTLS/SCTP x", 6,
            "99999 is no port"
        ),
        (
            "a=fingerprint:sha-256 " + fingerprint, "a=fingerprint:sha-256 0A:0B", 11,
            "is no fingerprint: a hash function, a blank, and bytes in hexadecimal with colons"
        ),
        (
            "a=fingerprint:sha-256 " + fingerprint, "a=x", 6,
            "the section has no fingerprint, so the peer could not be told from others"
        ),
    ]

    @Test(arguments: faults)
    func whatIsWrongIsSaidWithItsLine(from: String, to: String, line: Int, problem: String) throws {
        let text = Self.text { $0 == from ? to : $0 }
        let error = #expect(throws: SessionDescriptionError.self) { try SessionDescription(parsing: text) }
        #expect(error?.description == (line == 0 ? "SDP: \(problem)" : "SDP line \(line): \(problem)"))
    }

    @Test func whatIsTooMuchIsRefused() {
        let section = Self.section.map { $0 + "\r\n" }.joined()
        let candidate = "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n"
        for text in [
            Self.head + section + String(repeating: candidate, count: 257),
            Self.head + section + "a=x:" + String(repeating: "x", count: 4_096) + "\r\n",
            Self.head + String(repeating: "m=audio 9 RTP/AVP 0\r\n", count: 65),
            Self.head + section + String(repeating: "a=x\r\n", count: 2_048),
            Self.head + section + String(repeating: "a=" + String(repeating: "x", count: 998) + "\r\n", count: 66),
            Self.head, "", "\n\n", "v=0",
        ] {
            #expect(throws: SessionDescriptionError.self) { try SessionDescription(parsing: text) }
        }
    }

    @Test func aLineMayEndWithoutCarriageReturn() throws {
        let text = Self.text { $0 }
        let unix = text.split(separator: "\r\n").joined(separator: "\n")
        #expect(try SessionDescription(parsing: unix) == SessionDescription(parsing: text))
    }

    /// Whatever comes: an error or a description that can be written and read again, never a trap.
    @Test func mutatedDescriptionsDoNoHarm() throws {
        var random = SeededGenerator(for: "SDP")
        let samples = SampleDescription.all.map { Array($0.text.utf8) }
        for _ in 0..<fuzzRounds(2_000) {
            var bytes = samples.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 1...6, using: &random) { mutate(&bytes, using: &random) }
            guard let description = try? SessionDescription(parsing: String(decoding: bytes, as: UTF8.self)) else {
                continue
            }
            #expect(try SessionDescription(parsing: description.text) == description)
            _ = description.answer(sessionID: 1, transport: Self.transport(.active), maxMessageBytes: 1)?.text
        }
    }

    /// draft-thatcher-ice-renomination; libdatachannel separates its options by commas.
    @Test(arguments: [
        ("trickle ice2 renomination", true), ("renomination,trickle", true), ("renomination", true), ("trickle", false),
        ("trickle renominations", false), ("", false),
    ])
    func renominationIsOfferedAndRead(options: String, isSupported: Bool) throws {
        let text = Self.text { $0.hasPrefix("a=ice-options") ? "a=ice-options:\(options)" : $0 }
        let transport = try #require(try SessionDescription(parsing: text).data?.transport)
        #expect(transport.supportsRenomination == isSupported)
        #expect(transport.supportsTrickle == options.contains("trickle"))
        #expect(Self.transport(.either).supportsRenomination)
    }

    /// RFC 8839 section 5.5: for the whole session, in milliseconds.
    @Test func pacingIsOfferedAndRead() throws {
        var transport = Self.transport(.either)
        transport.pacingMilliseconds = 20
        let offer = SessionDescription(sessionID: 42, offering: transport, maxMessageBytes: 262_144)
        #expect(offer.text.contains("a=group:BUNDLE 0\r\na=ice-pacing:20\r\nm=application"))
        #expect(try SessionDescription(parsing: offer.text).data?.transport.pacingMilliseconds == 20)
        let silent = try SessionDescription(parsing: Self.text { $0 })
        #expect(silent.data?.transport.pacingMilliseconds == nil)
    }

    @Test(arguments: ["", "x", "-1", "+5", "4294967296", "20\r\na=ice-pacing:20"])
    func aPacingThatIsNoNumberOfMillisecondsIsRefused(value: String) {
        let text = Self.text { $0 == "a=x" ? "a=ice-pacing:\(value)" : $0 }
        #expect(throws: SessionDescriptionError.self) { try SessionDescription(parsing: text) }
    }

    static let fingerprint = Array(repeating: "0A", count: 32).joined(separator: ":")
    static let head = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=x\r\n"
    static let section = [
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789abcdefghijkl", "a=ice-options:trickle", "a=fingerprint:sha-256 " + fingerprint,
        "a=setup:actpass", "a=mid:0", "a=sctp-port:5000", "a=max-message-size:262144",
    ]

    static func text(_ change: (String) -> String) -> String {
        (head.split(separator: "\r\n").map(String.init) + section).map { change($0) + "\r\n" }.joined()
    }

    static func transport(_ setup: TransportDescription.Setup) -> TransportDescription {
        TransportDescription(
            iceUfrag: "abcd",
            icePassword: "0123456789abcdefghijkl",
            setup: setup,
            fingerprints: [CertificateFingerprint(hashFunction: "sha-256", digest: .init(repeating: 10, count: 32))]
        )
    }
}

/// Changes, removes, doubles or moves a piece.
func mutate(_ bytes: inout [UInt8], using random: inout SeededGenerator) {
    guard !bytes.isEmpty else { return }
    let start = Int.random(in: 0..<bytes.count, using: &random)
    let end = min(bytes.count, start + Int.random(in: 1...24, using: &random))
    switch Int.random(in: 0..<5, using: &random) {
    case 0: bytes[start] = .random(in: 0...255, using: &random)
    case 1: bytes[start] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case 2: bytes.removeSubrange(start..<end)
    case 3: bytes.insert(contentsOf: bytes[start..<end], at: Int.random(in: 0...bytes.count, using: &random))
    default: bytes.removeSubrange(end...)
    }
}

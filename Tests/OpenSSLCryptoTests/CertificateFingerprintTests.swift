import Testing

@testable import OpenSSLCrypto

struct CertificateFingerprintTests {
    private let text = "AB:CD:EF:01:" + Array(repeating: "00", count: 27).joined(separator: ":") + ":9F"

    @Test func readsWhatItWrites() throws {
        let fingerprint = try #require(CertificateFingerprint(attribute: "sha-256 \(text)"))
        #expect(fingerprint.algorithm == "sha-256")
        #expect(fingerprint.bytes == [0xAB, 0xCD, 0xEF, 1] + [UInt8](repeating: 0, count: 27) + [0x9F])
        #expect(fingerprint.text == text)
        #expect(fingerprint.description == "sha-256 \(text)")
        #expect(CertificateFingerprint(attribute: "SHA-256 \(text.lowercased())") == fingerprint)
    }

    @Test(arguments: [("sha-256", 32), ("sha-384", 48), ("sha-512", 64)])
    func takesEveryHashFunctionThatCanBeReliedOn(algorithm: String, count: Int) {
        let text = Array(repeating: "0A", count: count).joined(separator: ":")
        #expect(CertificateFingerprint(algorithm: algorithm, text: text)?.description == "\(algorithm) \(text)")
        #expect(CertificateFingerprint(algorithm: algorithm, text: String(text.dropLast(3))) == nil)
        #expect(CertificateFingerprint(algorithm: algorithm, text: text + ":0A") == nil)
    }

    @Test(arguments: [("md5", 16), ("md2", 16), ("sha-1", 20), ("sha-224", 28), ("sha256", 32), ("", 32)])
    func takesNoOther(algorithm: String, count: Int) {
        let text = Array(repeating: "0A", count: count).joined(separator: ":")
        #expect(CertificateFingerprint(algorithm: algorithm, text: text) == nil)
    }

    @Test func takesNoBrokenText() {
        for broken in [
            "", text.replacing("AB", with: "GB"), text.replacing(":", with: "-"), text.replacing(":", with: ""),
            " " + text, text.replacing("AB", with: "\u{FF21}B"), String(text.dropFirst()) + "0",
        ] {
            #expect(CertificateFingerprint(algorithm: "sha-256", text: broken) == nil)
        }
        for broken in ["", "sha-256", text, "sha-256 \(text) x", "sha-256\(text)"] {
            #expect(CertificateFingerprint(attribute: broken) == nil)
        }
    }

    @Test func holdsEveryProblemToOneLineWithAMend() {
        let found = CertificateFingerprint(.sha256, bytes: [UInt8](repeating: 1, count: 32))
        let problems: [CertificateProblem?] = [
            .expired, .notYetValid, .wrongName([]), .wrongName(["a.example"]), .unknownAuthority,
            found.map { .unpinned($0) }, .unacceptable("EE certificate key too weak"),
        ]
        for problem in problems {
            let words = problem?.description ?? ""
            #expect(words.contains("; ") && !words.contains("\n"))
        }
    }
}

import Foundation
import Server
import Settings
import Testing

@Suite struct OwnCertificateTests {
    @Test func fingerprintIsOfTheBytesBetweenTheMarks() {
        // "hello", whose SHA-256 every tool agrees on.
        let text = "junk\n-----BEGIN CERTIFICATE-----\naGVs\nbG8=\n-----END CERTIFICATE-----\n"
        #expect(
            OwnCertificate.fingerprint(ofPEM: text)
                == "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        )
    }

    @Test(arguments: [
        "", "hello", "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE----------BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE----------END CERTIFICATE-----",
    ])
    func textWithoutACertificateHasNone(_ text: String) {
        #expect(OwnCertificate.fingerprint(ofPEM: text) == nil)
    }

    @Test func manyWhoAskAtOnceMakeOneCertificate() async throws {
        let directory = NSTemporaryDirectory() + "own-certificate-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        var settings = Settings()
        settings.dataDirectory = directory
        let asked = settings
        let found = try await withThrowingTaskGroup(of: String?.self) { group in
            for _ in 0..<8 { group.addTask { try OwnCertificate.fingerprint(asked) } }
            var found: Set<String?> = []
            for try await fingerprint in group { found.insert(fingerprint) }
            return found
        }
        #expect(found.count == 1 && found.first??.hasPrefix("sha256:") == true)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory).count == 2)
    }

    @Test func operatorsCertificateHasNone() throws {
        var settings = Settings()
        settings.tls.certificate = "/nowhere/certificate.pem"
        settings.tls.privateKey = "/nowhere/key.pem"
        #expect(try OwnCertificate.fingerprint(settings) == nil)
    }
}

import COpenSSL
import Foundation
import Testing

@testable import OpenSSLCrypto

struct TLSContextTests {
    let files: CertificateFiles
    let now = Int64(Date().timeIntervalSince1970)

    init() throws { files = try CertificateFiles() }

    @Test func tellsTheLifeAndFingerprintOfItsCertificate() throws {
        let pair = try files.makePair(days: 30)
        let context = try makeContext(pair.certificate, pair.key)
        #expect(abs(context.notAfterSeconds - now - 30 * 86_400) < 60)
        #expect(context.fingerprint.count == 32)
        let text = try String(contentsOfFile: pair.certificate, encoding: .utf8)
        let body = text.split(separator: "\n").filter { !$0.hasPrefix("-") }.joined()
        let der = try #require(Data(base64Encoded: body))
        #expect(context.fingerprint == Digest.sha256(Array(der)))
    }

    @Test func saysThatAFileCannotBeRead() throws {
        let pair = try files.makePair()
        #expect(
            message("/nowhere/a.pem", pair.key).hasPrefix("certificate /nowhere/a.pem: No such file or directory; ")
        )
        #expect(message(pair.certificate, "/nowhere/a.key").hasPrefix("private key /nowhere/a.key: No such file"))
    }

    @Test func saysThatAFileIsNoPEM() throws {
        let pair = try files.makePair()
        let text = try files.write("not a key\n", to: "text")
        #expect(message(text, pair.key).contains("certificate \(text): no start line"))
        #expect(message(pair.certificate, text).contains("private key \(text): "))
        #expect(message(pair.key, pair.key).contains("certificate \(pair.key): "))
    }

    @Test func saysThatKeyAndCertificateDoNotMatch() throws {
        let pair = try files.makePair("one")
        let other = try files.makePair("two")
        #expect(
            message(pair.certificate, other.key)
                == "private key \(other.key) is not the key of certificate \(pair.certificate); give the pair"
        )
    }

    @Test func saysThatACertificateHasExpiredOrIsNotValidYet() throws {
        let pair = try files.makePair(days: 1)
        #expect(message(pair.certificate, pair.key, at: now + 3 * 86_400).contains("expired 48 hours ago; renew it"))
        #expect(message(pair.certificate, pair.key, at: now - 86_400).contains("is not valid for another"))
    }

    @Test func asksForNoPassphrase() throws {
        let pair = try files.makePair()
        let file = try #require(BIO_new_file(pair.key, "r"))
        defer { BIO_free(file) }
        let key = try #require(PEM_read_bio_PrivateKey(file, nil, nil, nil))
        defer { EVP_PKEY_free(key) }
        let sealed = files.path("sealed.key")
        let target = try #require(BIO_new_file(sealed, "w"))
        #expect(PEM_write_bio_PrivateKey(target, key, EVP_aes_128_cbc(), Array("secret".utf8), 6, nil, nil) == 1)
        BIO_free(target)
        #expect(message(pair.certificate, sealed).contains("give a PEM private key without a passphrase"))
    }

    @Test func holdsEveryMessageToOneLine() throws {
        let pair = try files.makePair()
        for text in [message("/nowhere", pair.key), message(pair.certificate, "/"), message("/", pair.key)] {
            #expect(!text.isEmpty && !text.contains("\n"))
        }
    }

    private func makeContext(_ certificate: String, _ key: String, at seconds: Int64? = nil) throws -> TLSContext {
        try TLSContext(
            kind: .tls,
            certificateChainPath: certificate,
            privateKeyPath: key,
            nowSeconds: seconds ?? now
        )
    }

    /// The error's text; empty where there is none.
    private func message(_ certificate: String, _ key: String, at seconds: Int64? = nil) -> String {
        do {
            _ = try makeContext(certificate, key, at: seconds)
            return ""
        } catch {
            return "\(error)"
        }
    }
}

struct SelfSignedCertificateTests {
    @Test func verifiesForItsNamesAndAddressesAndForNoOther() throws {
        let made = try SelfSignedCertificate.make(
            hosts: ["relay.example", "b.example"],
            addresses: ["192.0.2.1", "2001:db8::1"]
        )
        #expect(try verify(made.certificatePEM) { X509_VERIFY_PARAM_set1_host($0, "b.example", 0) })
        #expect(try verify(made.certificatePEM) { X509_VERIFY_PARAM_set1_ip_asc($0, "192.0.2.1") })
        #expect(try verify(made.certificatePEM) { X509_VERIFY_PARAM_set1_ip_asc($0, "2001:db8::1") })
        #expect(try !verify(made.certificatePEM) { X509_VERIFY_PARAM_set1_host($0, "c.example", 0) })
        #expect(try !verify(made.certificatePEM) { X509_VERIFY_PARAM_set1_ip_asc($0, "192.0.2.2") })
        #expect(try !verify(made.certificatePEM, purpose: X509_PURPOSE_SSL_CLIENT) { _ in 1 })
    }

    @Test func differsEachTime() throws {
        let first = try SelfSignedCertificate.make(hosts: ["a.example"], addresses: [])
        let second = try SelfSignedCertificate.make(hosts: ["a.example"], addresses: [])
        #expect(first.certificatePEM != second.certificatePEM)
        #expect(first.privateKeyPEM != second.privateKeyPEM)
    }

    @Test(
        arguments: [
            (["a,DNS:b"], []), ([""], []), (["a.example"], ["300.1.1.1"]), ([], []), (["a\n.example"], []),
            ([], ["[::1]"]),
        ] as [([String], [String])]
    )
    func refusesWhatIsNoName(hosts: [String], addresses: [String]) {
        #expect(throws: TLSError.self) { try SelfSignedCertificate.make(hosts: hosts, addresses: addresses) }
    }

    /// OpenSSL's own verifier, which trusts this certificate alone.
    private func verify(
        _ pem: String,
        purpose: Int32 = X509_PURPOSE_SSL_SERVER,
        require: (OpaquePointer?) -> Int32
    ) throws -> Bool {
        let bytes = Array(pem.utf8)
        let memory = try #require(BIO_new_mem_buf(bytes, Int32(bytes.count)))
        defer { BIO_free(memory) }
        let certificate = try #require(PEM_read_bio_X509(memory, nil, nil, nil))
        defer { X509_free(certificate) }
        let store = try #require(X509_STORE_new())
        defer { X509_STORE_free(store) }
        X509_STORE_add_cert(store, certificate)
        let verification = try #require(X509_STORE_CTX_new())
        defer { X509_STORE_CTX_free(verification) }
        X509_STORE_CTX_init(verification, store, certificate, nil)
        X509_STORE_CTX_set_purpose(verification, purpose)
        #expect(require(X509_STORE_CTX_get0_param(verification)) == 1)
        return X509_verify_cert(verification) == 1
    }
}

import COpenSSL
import Foundation
import Testing

@testable import OpenSSLCrypto

/// An authority of its own, which signs whatever a test needs.
final class Authority {
    let certificate: OpaquePointer
    let key: OpaquePointer

    /// - Parameter parent: nil for a root.
    init(_ name: String, of parent: Authority? = nil) throws {
        key = try #require(turnpike_generate_p256())
        certificate = try Self.make(
            name,
            key: key,
            by: parent.map { ($0.certificate, $0.key) },
            extensions: [(NID_basic_constraints, "critical,CA:TRUE"), (NID_key_usage, "critical,keyCertSign")]
        )
    }

    deinit {
        X509_free(certificate)
        EVP_PKEY_free(key)
    }

    var pem: String { get throws { try Self.text { PEM_write_bio_X509($0, certificate) } } }

    /// A server's certificate and key in PEM.
    /// - Parameters:
    ///   - names: as OpenSSL writes them, such as `DNS:a.example,IP:192.0.2.1`; nil for a common name alone.
    ///   - hours: of its life, counted from this one.
    func issue(
        _ names: String?,
        hours: Range<Int> = -1..<24,
        usage: String = "serverAuth"
    ) throws -> (certificate: String, key: String) {
        let key = try #require(turnpike_generate_p256())
        defer { EVP_PKEY_free(key) }
        let leaf = try Self.make(
            "relay.example",
            key: key,
            by: (certificate, self.key),
            hours: hours,
            extensions: [(NID_ext_key_usage, usage)] + (names.map { [(NID_subject_alt_name, $0)] } ?? [])
        )
        defer { X509_free(leaf) }
        return (
            try Self.text { PEM_write_bio_X509($0, leaf) },
            try Self.text { PEM_write_bio_PrivateKey($0, key, nil, nil, 0, nil, nil) }
        )
    }

    private static func make(
        _ name: String,
        key: OpaquePointer,
        by issuer: (certificate: OpaquePointer, key: OpaquePointer)?,
        hours: Range<Int> = -1..<24,
        extensions: [(Int32, String)]
    ) throws -> OpaquePointer {
        let made = try #require(X509_new())
        ASN1_INTEGER_set(X509_get_serialNumber(made), Int.random(in: 1...1_000_000_000))
        X509_set_version(made, 2)
        X509_gmtime_adj(X509_getm_notBefore(made), hours.lowerBound * 3_600)
        X509_gmtime_adj(X509_getm_notAfter(made), hours.upperBound * 3_600)
        let bytes = Array(name.utf8)
        X509_NAME_add_entry_by_txt(
            X509_get_subject_name(made),
            "CN",
            MBSTRING_UTF8,
            bytes,
            Int32(bytes.count),
            -1,
            0
        )
        X509_set_issuer_name(made, X509_get_subject_name(issuer?.certificate ?? made))
        X509_set_pubkey(made, key)
        for (identifier, value) in extensions {
            let item = try #require(X509V3_EXT_conf_nid(nil, nil, identifier, value))
            X509_add_ext(made, item, -1)
            X509_EXTENSION_free(item)
        }
        try #require(X509_sign(made, issuer?.key ?? key, EVP_sha256()) > 0)
        return made
    }

    private static func text(_ write: (OpaquePointer) -> Int32) throws -> String {
        let memory = try #require(BIO_new(BIO_s_mem()))
        defer { BIO_free(memory) }
        try #require(write(memory) == 1)
        var bytes = [UInt8](repeating: 0, count: BIO_ctrl_pending(memory))
        let count = BIO_read(memory, &bytes, Int32(bytes.count))
        return String(decoding: bytes.prefix(Int(max(count, 0))), as: UTF8.self)
    }
}

extension CertificateFiles {
    /// A server's context of a certificate as `Authority.issue` makes it, with those of authorities behind it.
    func makeContext(
        _ pair: (certificate: String, key: String),
        kind: TLSContext.Kind = .tls,
        chain: String = "",
        hoursFromNow: Int = 0,
        applicationProtocols: [String] = TLSContext.turnProtocols
    ) throws -> TLSContext {
        try TLSContext(
            kind: kind,
            certificateChainPath: write(pair.certificate + chain, to: "\(UUID().uuidString).pem"),
            privateKeyPath: write(pair.key, to: "\(UUID().uuidString).key"),
            nowSeconds: Int64(Date().timeIntervalSince1970) + Int64(hoursFromNow) * 3_600,
            applicationProtocols: applicationProtocols
        )
    }

    func trust(_ authority: Authority) throws -> ServerTrust {
        .authorities(file: try write(authority.pem, to: "\(UUID().uuidString).pem"))
    }
}

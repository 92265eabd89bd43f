import COpenSSL

/// A certificate for a server that was given none, and for a peer.
package enum SelfSignedCertificate {
    /// An ECDSA P-256 certificate for TLS servers, signed by its own key, valid from an hour ago.
    ///
    /// - Parameters:
    ///   - hosts: DNS names for its subjectAltName.
    ///   - addresses: IPv4 and IPv6 addresses for its subjectAltName, in text.
    ///   - days: how long it is valid; ten years unless told, since nothing renews it.
    /// - Throws: `TLSError` for a name or address that is none, or when both lists are empty.
    package static func make(
        hosts: [String],
        addresses: [String],
        days: Int = 3_650
    ) throws(TLSError) -> (certificatePEM: String, privateKeyPEM: String) {
        guard let commonName = hosts.first ?? addresses.first else {
            throw TLSError("a certificate needs a name; give a host name or an address")
        }
        guard (1...36_500).contains(days) else {
            throw TLSError("a certificate for \(days) days cannot be made; give 1 to 36500")
        }
        let (certificate, key) = try make { (certificate, key) throws(TLSError) in
            try fill(certificate, key: key, commonName: commonName, days: days, usage: "serverAuth")
            try addNames(hosts: hosts, addresses: addresses, to: certificate)
        }
        defer {
            X509_free(certificate)
            EVP_PKEY_free(key)
        }
        let certificatePEM = try text { PEM_write_bio_X509($0, certificate) }
        let privateKeyPEM = try text { PEM_write_bio_PrivateKey($0, key, nil, nil, 0, nil, nil) }
        return (certificatePEM, privateKeyPEM)
    }

    /// One for both ends of DTLS between peers, with a random name. The caller owns both.
    static func makePeers(days: Int) throws(TLSError) -> (certificate: OpaquePointer, key: OpaquePointer) {
        try make { (certificate, key) throws(TLSError) in
            let name = SecureRandom.bytes(16).map { String($0, radix: 16) }.joined(separator: "-")
            try fill(certificate, key: key, commonName: name, days: days, usage: "serverAuth,clientAuth")
        }
    }

    private static func make(
        _ fill: (_ certificate: OpaquePointer, _ key: OpaquePointer) throws(TLSError) -> Void
    ) throws(TLSError) -> (certificate: OpaquePointer, key: OpaquePointer) {
        ERR_clear_error()
        guard let certificate = X509_new() else { throw TLSError("OpenSSL has no memory for a certificate") }
        guard let key = turnpike_generate_p256() else {
            X509_free(certificate)
            throw TLSError("OpenSSL makes no P-256 key: \(TLSError.takeReason())")
        }
        do throws(TLSError) {
            try fill(certificate, key)
            try require(X509_sign(certificate, key, EVP_sha256()) > 0, "sign the certificate")
        } catch {
            X509_free(certificate)
            EVP_PKEY_free(key)
            throw error
        }
        return (certificate, key)
    }

    private static func fill(
        _ certificate: OpaquePointer,
        key: OpaquePointer,
        commonName: String,
        days: Int,
        usage: String
    ) throws(TLSError) {
        // 20 bytes at most, and positive (RFC 5280 section 4.1.2.2).
        var serial = SecureRandom.bytes(16)
        serial[0] &= 0x7F
        let number = BN_bin2bn(serial, Int32(serial.count), nil)
        defer { BN_free(number) }
        try require(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nil, "set the serial number")
        try require(X509_set_version(certificate, 2) == 1, "set version 3")
        // An hour in the past, for clients whose clock is behind.
        try require(X509_gmtime_adj(X509_getm_notBefore(certificate), -3_600) != nil, "set the validity")
        try require(X509_time_adj_ex(X509_getm_notAfter(certificate), Int32(days), 0, nil) != nil, "set the validity")
        // A common name holds 64 characters at most (RFC 5280 appendix A.1); clients read the subjectAltName.
        let name = X509_get_subject_name(certificate)
        let bytes = Array(commonName.utf8.prefix(64))
        try require(
            X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, bytes, Int32(bytes.count), -1, 0) == 1,
            "set the name \(commonName)"
        )
        try require(X509_set_issuer_name(certificate, name) == 1, "set the issuer")
        try require(X509_set_pubkey(certificate, key) == 1, "set the key")
        try add(NID_basic_constraints, "critical,CA:FALSE", to: certificate)
        try add(NID_key_usage, "critical,digitalSignature", to: certificate)
        try add(NID_ext_key_usage, usage, to: certificate)
    }

    private static func add(_ identifier: Int32, _ value: String, to certificate: OpaquePointer) throws(TLSError) {
        let made = X509V3_EXT_conf_nid(nil, nil, identifier, value)
        defer { X509_EXTENSION_free(made) }
        try require(made != nil && X509_add_ext(certificate, made, -1) == 1, "add \(value)")
    }

    /// Builds the names as values rather than as OpenSSL's configuration text, in which a comma would start another
    /// name.
    private static func addNames(
        hosts: [String],
        addresses: [String],
        to certificate: OpaquePointer
    ) throws(TLSError) {
        guard let names = turnpike_general_names_new() else { throw TLSError("OpenSSL has no memory for names") }
        defer { turnpike_general_names_free(names) }
        for host in hosts {
            guard (1...253).contains(host.utf8.count), host.utf8.allSatisfy(isHostCharacter) else {
                throw TLSError("\"\(host)\" is no host name; give letters, digits, hyphens and dots")
            }
            try require(turnpike_general_names_add_dns(names, host) == 1, "add the name \(host)")
        }
        for address in addresses {
            guard turnpike_general_names_add_address(names, address) == 1 else {
                ERR_clear_error()
                throw TLSError("\"\(address)\" is no IPv4 or IPv6 address; give one, without a port or brackets")
            }
        }
        try require(
            X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, 0) == 1,
            "add the names"
        )
    }

    static func isHostCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "*"):
            true
        default: false
        }
    }

    private static func require(_ done: Bool, _ step: String) throws(TLSError) {
        guard done else { throw TLSError("OpenSSL cannot \(step): \(TLSError.takeReason())") }
    }

    private static func text(_ write: (OpaquePointer) -> Int32) throws(TLSError) -> String {
        guard let memory = BIO_new(BIO_s_mem()) else { throw TLSError("OpenSSL has no memory for PEM") }
        defer { BIO_free(memory) }
        try require(write(memory) == 1, "write PEM")
        var bytes = [UInt8](repeating: 0, count: BIO_ctrl_pending(memory))
        let read = BIO_read(memory, &bytes, Int32(bytes.count))
        return String(decoding: bytes.prefix(Int(max(read, 0))), as: UTF8.self)
    }
}

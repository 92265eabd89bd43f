import COpenSSL

/// The names in a certificate's subjectAltName, as far as they can be shown: a certificate is anybody's input.
enum CertificateNames {
    /// The host names in their order, wildcards left out: they name no host.
    static func hosts(of certificate: OpaquePointer) -> [String] {
        read(certificate) { names, index, text in
            let length = turnpike_general_names_dns(names, index, text.baseAddress, text.count)
            return text.prefix(Int(max(length, 0)))
        }.filter { !$0.utf8.contains { $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: ":") } }
    }

    /// Host names, with wildcards, and addresses.
    /// - Parameter limit: how many at most; a certificate may have thousands.
    static func all(of certificate: OpaquePointer, limit: Int) -> [String] {
        let found = read(certificate) { names, index, text in
            var length = turnpike_general_names_dns(names, index, text.baseAddress, text.count)
            if length <= 0 { length = turnpike_general_names_address(names, index, text.baseAddress, text.count) }
            return text.prefix(Int(max(length, 0)))
        }
        return Array(found.prefix(limit))
    }

    private static func read(
        _ certificate: OpaquePointer,
        _ take: (UnsafeMutableRawPointer, Int32, UnsafeMutableBufferPointer<UInt8>) ->
            Slice<UnsafeMutableBufferPointer<UInt8>>
    ) -> [String] {
        guard let names = turnpike_x509_names(certificate) else { return [] }
        defer { turnpike_general_names_free(names) }
        // A name of DNS has 253 characters at most (RFC 1035 section 2.3.4); longer ones are no names.
        return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 253) { text in
            (0..<max(turnpike_general_names_count(names), 0)).compactMap { index in
                let bytes = take(names, index, text)
                guard !bytes.isEmpty, bytes.allSatisfy(isNameByte) else { return nil }
                return String(decoding: bytes, as: UTF8.self)
            }
        }
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: ":"),
            UInt8(ascii: "*"):
            true
        default: false
        }
    }
}

import COpenSSL

/// A certificate in a PEM file, without its key.
package struct CertificateFile: Sendable {
    /// The host names that it is made out to, in its order, wildcards left out: they name no host.
    package let hostNames: [String]
    /// The addresses among those that were asked for.
    package let addresses: Set<String>
    /// The host names among those that were asked for, which wildcards may stand for.
    package let hosts: Set<String>

    /// - Parameters:
    ///   - path: the first certificate of the file counts.
    ///   - addresses: in text, without brackets; which of them it is made out to.
    ///   - hosts: likewise.
    /// - Returns: nil where no certificate can be read there.
    package init?(path: String, addresses: [String] = [], hosts: [String] = []) {
        guard let file = BIO_new_file(path, "r") else {
            ERR_clear_error()
            return nil
        }
        defer { BIO_free(file) }
        guard let certificate = PEM_read_bio_X509(file, nil, nil, nil) else {
            ERR_clear_error()
            return nil
        }
        defer { X509_free(certificate) }
        self.addresses = Set(addresses.filter { X509_check_ip_asc(certificate, $0, 0) == 1 })
        self.hosts = Set(hosts.filter { X509_check_host(certificate, $0, $0.utf8.count, 0, nil) == 1 })
        ERR_clear_error()
        hostNames = CertificateNames.hosts(of: certificate)
    }
}

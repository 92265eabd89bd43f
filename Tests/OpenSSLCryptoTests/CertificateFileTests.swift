import OpenSSLCrypto
import Testing

@Suite struct CertificateFileTests {
    @Test func namesAndAddressesOfTheFirstCertificateAreRead() throws {
        let files = try CertificateFiles()
        let made = try SelfSignedCertificate.make(
            hosts: ["*.relay.example", "relay.example", "turn.example"],
            addresses: ["192.0.2.1", "2001:db8::1"]
        )
        let other = try SelfSignedCertificate.make(hosts: ["other.example"], addresses: [])
        let path = try files.write(made.certificatePEM + other.certificatePEM, to: "chain.pem")
        let certificate = try #require(
            CertificateFile(path: path, addresses: ["192.0.2.1", "192.0.2.2", "2001:db8::1", "no address"])
        )
        // A wildcard names no host.
        #expect(certificate.hostNames == ["relay.example", "turn.example"])
        #expect(certificate.addresses == ["192.0.2.1", "2001:db8::1"])
    }

    @Test func whatIsNoCertificateHasNoNames() throws {
        let files = try CertificateFiles()
        #expect(CertificateFile(path: try files.write("", to: "empty.pem")) == nil)
        #expect(CertificateFile(path: try files.makePair().key) == nil)
        #expect(CertificateFile(path: files.path("nowhere.pem")) == nil)
    }
}

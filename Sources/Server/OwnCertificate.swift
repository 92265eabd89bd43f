import Foundation
import OpenSSLCrypto
import Settings
import TURN

/// The certificate that the server makes for itself, which no authority vouches for: peers pin its digest.
package enum OwnCertificate {
    /// `sha256:` and the 64 hexadecimal digits of the certificate's SHA-256. The data directory has to be there; the
    /// certificate is made where it is not, since the server would make it so at its first start.
    ///
    /// - Returns: `nil` where the operator gave the server a certificate, which peers trust by its authority.
    package static func fingerprint(_ settings: Settings) throws(ServerError) -> String? {
        guard settings.tls.certificate == nil || settings.tls.privateKey == nil else { return nil }
        let store = CertificateStore(settings)
        if !store.isThere {
            // Only what the relay would listen on and relay from is of interest here, and no key goes into that.
            let setup = try RelaySetup(
                settings,
                nonceKeys: NonceKeys(current: SecureRandom.bytes(32)),
                secrets: [],
                memory: MemoryPlan(configuredBytes: settings.limits.memoryBytes)
            )
            let names = CertificateNames(setup.options, hostName: settings.hostName)
            try store.makeIfMissing(names.hosts, names.addresses)
        }
        guard let text = try? String(contentsOfFile: store.certificatePath, encoding: .utf8) else {
            throw ServerError("\(store.certificatePath) cannot be read; run the command as its owner")
        }
        guard let fingerprint = fingerprint(ofPEM: text) else {
            throw ServerError(
                "\(store.certificatePath) holds no certificate; remove it, and a new one is made at the next start"
            )
        }
        return fingerprint
    }

    /// - Returns: `nil` where the text does not begin a certificate (RFC 7468 section 5).
    package static func fingerprint(ofPEM text: String) -> String? {
        guard let begin = text.range(of: "-----BEGIN CERTIFICATE-----"),
            let end = text.range(of: "-----END CERTIFICATE-----", range: begin.upperBound..<text.endIndex),
            let bytes = Data(
                base64Encoded: String(text[begin.upperBound..<end.lowerBound]),
                options: .ignoreUnknownCharacters
            ), !bytes.isEmpty
        else { return nil }
        let digits = Digest.sha256(Array(bytes)).map { byte in
            let text = String(byte, radix: 16)
            return text.count == 1 ? "0" + text : text
        }
        return digits.isEmpty ? nil : "sha256:" + digits.joined()
    }
}

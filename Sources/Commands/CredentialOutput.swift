import Accounts
import Server
import Settings

/// Prints a credential in the chosen format, having found the server's address beforehand.
struct CredentialOutput {
    private let format: CredentialFormat
    private let settings: Settings
    private let urls: PeerURLs?

    /// - Throws: status 1 where `env` is asked for and the address is not known.
    init(_ format: CredentialFormat, settings: Settings) throws {
        self.format = format
        self.settings = settings
        urls = PeerCredential.urls(of: settings)
        if format == .env, urls == nil {
            throw CommandError.failed(
                "--format env needs the server's address; set external_address, or a port other than 0 in listen.udp"
            )
        }
    }

    /// - Parameters:
    ///   - isPasswordShown: whether formats other than `env` repeat the password; `env` would be of no use without it.
    ///   - mend: what to do when standard output is closed or full, and the password with it lost.
    func print(
        username: String,
        password: String,
        isPasswordShown: Bool,
        realm: String,
        expiresAtSeconds: Int64?,
        mend: String
    ) throws {
        let fingerprint = certificateFingerprint()
        let credential = PeerCredential(
            username: username,
            password: isPasswordShown ? password : nil,
            realm: realm,
            expiresAtSeconds: expiresAtSeconds,
            urls: urls,
            certificateFingerprint: fingerprint
        )
        switch (format, urls) {
        case (.text, _):
            try Console.current.write(credential.text, mend: mend)
        case (.json, _):
            try Console.current.write(JSON.text(credential), mend: mend)
        case (.env, let urls?):
            try Console.current.write(
                PeerCredential.environment(
                    urls: urls,
                    username: username,
                    password: password,
                    certificateFingerprint: fingerprint
                ),
                mend: mend
            )
        case (.env, nil):
            throw CommandError.failed("--format env needs the server's address; set external_address")
        }
    }
}

extension CredentialOutput {
    /// The credential is of use without it, so whatever is wrong with the certificate is only told.
    private func certificateFingerprint() -> String? {
        guard let urls, urls.needsCertificate else { return nil }
        let console = Console.current
        do throws(ServerError) {
            let fingerprint = try OwnCertificate.fingerprint(settings)
            if fingerprint == nil, format == .env, !urls.hasSecureName {
                console.message(
                    "turnpike: peers check the certificate of tls.certificate against \(urls.address.host); "
                        + "where it is made out to a name, set host_name"
                )
            }
            return fingerprint
        } catch {
            console.message("turnpike: without the certificate's fingerprint: \(error)")
            return nil
        }
    }
}

/// Keys hold for one realm only, so a user of another realm than the server's cannot authenticate.
enum RealmNotice {
    static func tell(name: AccountName, realm: Realm, settings: Settings) {
        // Bytes are compared, as the hash will: Swift's own comparison takes equivalent spellings for equal.
        if !realm.value.utf8.elementsEqual(settings.realm.utf8) {
            Console.current.message(
                "turnpike: user \(name) is of realm \(realm.value.quotedForMessage) and the server's is "
                    + "\(settings.realm.quotedForMessage), so the user cannot authenticate; "
                    + "run turnpike user passwd \(name) --realm \(settings.realm.quotedForShell)"
            )
        }
    }
}

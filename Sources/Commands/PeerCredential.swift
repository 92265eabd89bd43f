import Accounts
import Foundation
import Server
import Settings

/// A username and password with the URLs they are for, as `user add`, `user passwd` and `credentials` print them.
struct PeerCredential: Encodable {
    let username: String
    /// `nil` where the person who runs the command typed it, and the format is read by people or kept in logs.
    let password: String?
    let realm: String
    let expiresAtSeconds: Int64?
    let urls: PeerURLs?
    /// What pins the server's own certificate; `nil` where it has another, or none.
    let certificateFingerprint: String?

    private enum CodingKeys: String, CodingKey {
        case username, password, realm, expiresAt, signalingServer, stunServers, turnServers, certificateFingerprint
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(username, forKey: .username)
        try container.encodeIfPresent(password, forKey: .password)
        try container.encode(realm, forKey: .realm)
        try container.encode(expiresAtSeconds.map(Timestamp.text), forKey: .expiresAt)
        try container.encode(urls?.signaling, forKey: .signalingServer)
        try container.encode(urls?.stun ?? [], forKey: .stunServers)
        try container.encode(urls.map { $0.turn + $0.turns } ?? [], forKey: .turnServers)
        try container.encode(certificateFingerprint, forKey: .certificateFingerprint)
    }

    /// One `key: value` a line.
    var text: String {
        var rows = [["username:", username]]
        if let password { rows.append(["password:", password]) }
        rows.append(["realm:", realm])
        if let expiresAtSeconds { rows.append(["expires:", Timestamp.text(seconds: expiresAtSeconds)]) }
        if let signaling = urls?.signaling { rows.append(["signaling:", signaling]) }
        for url in urls?.stun ?? [] { rows.append(["stun:", url]) }
        for url in urls.map({ $0.turn + $0.turns }) ?? [] { rows.append(["turn:", url]) }
        if let certificateFingerprint { rows.append(["certificate:", certificateFingerprint]) }
        return Table.text(rows)
    }

    /// Shell assignments, ready to source.
    static func environment(
        urls: PeerURLs,
        username: String,
        password: String,
        certificateFingerprint: String?
    ) -> String {
        var variables = urls.signaling.map { [("SIGNALING_SERVER", $0)] } ?? []
        variables += [
            ("STUN_SERVERS", urls.stun.joined(separator: ",")),
            ("TURN_SERVER", urls.turn.first ?? ""),
            ("TURN_SERVERS", (urls.turn + urls.turns).joined(separator: ",")),
            ("TURN_USERNAME", username),
            ("TURN_PASSWORD", password),
        ]
        variables += certificateFingerprint.map { [("TURNPIKE_CERT_FINGERPRINT", $0)] } ?? []
        return variables.map { "\($0)=\(quoted($1))\n" }.joined()
    }

    /// The right side of a shell assignment, where, unlike in a command's words, `?` and brackets stand for themselves.
    private static func quoted(_ value: String) -> String {
        let plain = value.filter { !"?[]".contains($0) }
        return plain.isEmpty || plain.quotedForShell != plain ? value.quotedForShell : value
    }
}

extension PeerCredential {
    /// Where peers find the server of `settings`, with a word on standard error where that is not the whole truth.
    static func urls(of settings: Settings) -> PeerURLs? {
        let console = Console.current
        guard let urls = PeerURLs(settings: settings) else {
            console.message(
                "turnpike: the server's address is not known before it runs; set listen.udp to a port other than 0 "
                    + "or external_address"
            )
            return nil
        }
        if urls.isPrivate {
            console.message(
                "turnpike: \(urls.address.host) is an address of this network only; "
                    + "set external_address for peers elsewhere"
            )
        }
        return urls
    }
}

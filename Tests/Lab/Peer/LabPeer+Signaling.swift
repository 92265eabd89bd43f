import Foundation
import STUN
import Traversal

/// What a peer knows of its rendezvous.
struct PeerSignaling {
    var client: SignalingClient?
    /// It is registered.
    var isReady = false
    /// The other peer.
    var peer: String?
    /// It has called the other one, and its offers count where both offer at once.
    var isOfferer = false
    /// An offer is out.
    var awaitsAnswer = false
    /// Continues a session whose connection is gone.
    var resumeToken: String?
    /// Messages since the welcome, so that none comes twice.
    var received = 0
    /// Messages that wait for the connection.
    var unsent: [String] = []
    /// The peer's user name fragment of the session; nil until it is known.
    var remoteFragment: String?
    /// A connection was lost, and maybe messages with it.
    var hasBroken = false
    var pause = 0.0
}

/// Descriptions and candidates, as JSON through the hub:
///
///     {"type":"offer","to":"bob","offer":{"ufrag":"…","pwd":"…","to":"","candidates":["candidate:…",…]}}
///     {"type":"ice-candidate","to":"bob","candidate":{"ufrag":"…","candidates":["candidate:…"]}}
extension LabPeer {
    // MARK: The connection

    func dial() {
        guard !isClosed, signaling.client == nil,
            let client = SignalingClient(host, to: internet.rendezvous("signaling").endpoint())
        else { return }
        signaling.client = client
        client.onMessage = { [weak self] in self?.hear($0) }
        client.onClose = { [weak self, weak client] _ in
            if let self, client === signaling.client { hungUp() }
        }
        var hello: [String: Any] = ["type": "hello", "username": name, "password": Self.password(name)]
        if let token = signaling.resumeToken {
            hello["resume"] = token
            hello["received"] = signaling.received
        }
        client.send(Self.text(hello))
        keepAlive(client)
    }

    func hangUpSignaling() {
        signaling.client?.close()
        signaling.client = nil
        signaling.isReady = false
    }

    private func hungUp() {
        signaling.client = nil
        signaling.isReady = false
        signaling.hasBroken = true
        let pause = signaling.pause
        signaling.pause = min(10, max(0.5, 2 * pause))
        internet.scheduler.after(seconds: pause) { [weak self] in self?.dial() }
    }

    /// NATs forget connections too, and the hub whoever says nothing.
    private func keepAlive(_ client: SignalingClient) {
        internet.scheduler.after(seconds: 20) { [weak self, weak client] in
            guard let self, let client, client === signaling.client else { return }
            client.send(#"{"type":"ping"}"#)
            keepAlive(client)
        }
    }

    // MARK: What is sent

    func offer() {
        signaling.awaitsAnswer = true
        core.step { [weak self] _, _, _ in self?.describe("offer") }
    }

    /// A candidate that is found after the description was sent.
    func tell(_ candidate: ICECandidate) {
        guard signaling.awaitsAnswer || signaling.remoteFragment != nil else { return }
        say("ice-candidate", "candidate", ["candidates": [CandidateLine.text(candidate)]])
    }

    /// - Parameter offer: the user name fragment of the offer that an answer is to.
    private func describe(_ kind: String, to offer: String = "") {
        let candidates = locals.map { CandidateLine.text(ice.signaled($0)) }
        say(kind, kind, ["pwd": ice.localCredentials.password, "to": offer, "candidates": candidates])
    }

    private func say(_ type: String, _ member: String, _ payload: [String: Any]) {
        guard let peer = signaling.peer else { return }
        let payload = payload.merging(["ufrag": ice.localCredentials.usernameFragment]) { $1 }
        post(Self.text(["type": type, "to": peer, member: payload] as [String: Any]))
    }

    private func post(_ message: String) {
        if signaling.isReady, let client = signaling.client { return client.send(message) }
        // A description says all that was said before it.
        if signaling.unsent.count < 64 { signaling.unsent.append(message) }
    }

    private func register() { signaling.client?.send(Self.text(["type": "register", "peerId": name])) }

    private func isThere() {
        signaling.isReady = true
        signaling.pause = 0
        let unsent = signaling.unsent
        signaling.unsent = []
        for message in unsent { signaling.client?.send(message) }
        // What was on its way when the connection broke has not arrived.
        if signaling.hasBroken, signaling.peer != nil { repeatCandidates() }
        signaling.hasBroken = false
    }

    /// All candidates once more: the peer was not there when they were sent, or the server has forgotten them.
    private func repeatCandidates() {
        guard signaling.remoteFragment != nil else {
            if signaling.awaitsAnswer { describe("offer") }
            return
        }
        let candidates = locals.map { CandidateLine.text(ice.signaled($0)) }
        say("ice-candidate", "candidate", ["candidates": candidates])
    }

    // MARK: What is heard

    private func hear(_ text: String) {
        guard let message = try? JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any],
            let type = message["type"] as? String, !isClosed
        else { return }
        if type != "welcome" { signaling.received += 1 }
        switch type {
        case "welcome":
            signaling.resumeToken = message["resumeToken"] as? String
            signaling.received = 0
            if message["resumed"] as? Bool == true { isThere() } else { register() }
        case "registered": isThere()
        case "error": refused(message["code"] as? String ?? "")
        case "offer", "answer", "ice-candidate":
            guard let from = message["from"] as? String, let payload = message["payload"] as? [String: Any] else {
                return
            }
            take(type, payload, from)
        default: break
        }
    }

    private func refused(_ code: String) {
        internet.scheduler.after(seconds: 1) { [weak self] in
            guard let self, !isClosed else { return }
            switch code {
            // A connection of before, which the server thinks is alive.
            case "peer-taken": register()
            case "not-found" where signaling.isReady: repeatCandidates()
            default: break
            }
        }
    }

    private func take(_ type: String, _ payload: [String: Any], _ from: String) {
        guard let fragment = payload["ufrag"] as? String else { return }
        let lines = payload["candidates"] as? [String] ?? []
        let candidates = lines.compactMap { try? CandidateLine.parse($0) }
        let credentials = (payload["pwd"] as? String).flatMap {
            try? ICECredentials(usernameFragment: fragment, password: $0)
        }
        switch type {
        case "offer":
            // Of two that cross, the caller's counts.
            if signaling.isOfferer, signaling.awaitsAnswer { return }
            if let known = signaling.remoteFragment, known != fragment { begin(as: nil) }
            signaling.awaitsAnswer = false
            signaling.peer = from
            gather()
        case "answer":
            // One to an offer before the last comes too late.
            guard signaling.awaitsAnswer, payload["to"] as? String == ice.localCredentials.usernameFragment else {
                return
            }
            signaling.awaitsAnswer = false
        default: break
        }
        if let credentials { meet(credentials) }
        core.step { machine, now, actions in
            machine.turn(&actions) { ice, wanted in
                for candidate in candidates { ice.addRemoteCandidate(candidate, now: now, into: &wanted) }
            }
        }
        if type == "offer" { core.step { [weak self] _, _, _ in self?.describe("answer", to: fragment) } }
    }

    private func meet(_ credentials: ICECredentials) {
        signaling.remoteFragment = credentials.usernameFragment
        // The other one's options are the same.
        var parameters = ICERemoteParameters(
            credentials: credentials,
            supportsRenomination: options.supportsRenomination
        )
        parameters.pacing = options.ice.pacing
        let told = parameters
        core.step { machine, now, actions in
            machine.turn(&actions) { ice, wanted in try? ice.setRemote(told, now: now, into: &wanted) }
        }
    }

    private static func text(_ message: [String: Any]) -> String {
        let options: JSONSerialization.WritingOptions = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? JSONSerialization.data(withJSONObject: message, options: options) else { return "{}" }
        return String(decoding: data, as: UTF8.self)
    }
}

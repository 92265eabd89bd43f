import OpenSSLCrypto
import STUN
import Testing
import TurnpikeClient

@Suite struct WebSocketTests {
    struct Outcome: Sendable {
        var opened = false
        var texts: [String] = []
        var code: UInt16 = 0
        var failure: NetworkFailure?
    }

    private func talk(
        to server: SecureServer,
        isSecure: Bool = false,
        path: String = "/echo",
        trust: ServerTrust = .system,
        sending texts: [String]
    ) async throws -> Outcome {
        let port = server.endpoint.port
        return try await onLoop { network, done in
            var outcome = Outcome()
            var held: (any WebSocketLink)?
            let request = WebSocketRequest(
                host: "localhost",
                port: port,
                path: path,
                isSecure: isSecure,
                trust: trust,
                headers: [("Authorization", "Bearer abc")]
            )
            let link = network.openWebSocket(request) { event in
                switch event {
                case .opened:
                    outcome.opened = true
                    for text in texts { held?.send(text) }
                case .text(let text):
                    outcome.texts.append(text)
                    if outcome.texts.count == texts.count {
                        held?.close(code: 1000)
                        done(outcome)
                    }
                case .closed(let code, let failure):
                    (outcome.code, outcome.failure) = (code, failure)
                    done(outcome)
                }
            }
            held = link
            return [link]
        }
    }

    @Test(arguments: [false, true])
    func textsGoThereAndBackInOrder(isSecure: Bool) async throws {
        let server = try await SecureServer(.webSocket, isSecure: isSecure)
        let texts = ["{\"type\":\"hello\"}", String(repeating: "ä", count: 30_000), "last"]
        let outcome = try await talk(
            to: server,
            isSecure: isSecure,
            trust: .authorities(file: server.certificateFile),
            sending: texts
        )
        #expect(outcome.opened && outcome.code == 0 && outcome.failure == nil)
        #expect(outcome.texts == texts)
        try await server.stop()
    }

    @Test func theOtherSidesCodeIsTold() async throws {
        let server = try await SecureServer(.webSocket, isSecure: false)
        let outcome = try await talk(to: server, sending: ["bye"])
        #expect(outcome.code == 4401 && outcome.failure == nil)
        try await server.stop()
    }

    @Test func aServerThatDoesNotTakeTheUpgradeIsNamed() async throws {
        let server = try await SecureServer(.webSocket, isSecure: false)
        let outcome = try await talk(to: server, path: "/elsewhere", sending: [])
        #expect(!outcome.opened)
        #expect(outcome.failure?.reason == .notWebSocket)
        #expect(outcome.failure?.httpStatus == 404)
        try await server.stop()
    }

    @Test func aCertificateOfNobodyKnownIsNamed() async throws {
        let server = try await SecureServer(.webSocket)
        let outcome = try await talk(to: server, isSecure: true, sending: [])
        #expect(!outcome.opened)
        #expect(outcome.failure?.reason == .certificate)
        #expect(outcome.failure?.description.contains("TURNPIKE_CA_FILE") == true)
        try await server.stop()
    }

    @Test func aTextThatIsNotUTF8EndsTheConnection() async throws {
        let server = try await SecureServer(.webSocket, isSecure: false)
        let outcome = try await talk(to: server, sending: ["bad"])
        #expect(outcome.opened && outcome.failure?.reason == .protocolViolation)
        try await server.stop()
    }

    @Test func aPortWithoutAServerIsNamed() async throws {
        let server = try await SecureServer(.webSocket, isSecure: false)
        try await server.stop()
        let outcome = try await talk(to: server, sending: [])
        #expect(!outcome.opened)
        #expect(outcome.failure?.reason == .refused)
    }
}

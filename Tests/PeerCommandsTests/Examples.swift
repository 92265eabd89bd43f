import Foundation
import PeerCommands
import Synchronization
import TurnpikeClient

/// What a command left behind.
struct Outcome {
    let status: Int32
    let output: String
    let messages: String
}

/// Runs commands with an environment and streams that nobody else sees.
func run(_ arguments: [String], environment: [String: String] = [:], input: String = "") async -> Outcome {
    let streams = Streams(Array(input.utf8))
    let console = Console(
        environment: environment,
        read: { streams.read($0) },
        output: { bytes in
            streams.append(output: bytes)
            return 0
        },
        diagnostics: { streams.append(messages: $0) }
    )
    let status = await Console.$current.withValue(console) { await PeerCommandLine.run(arguments) }
    return streams.outcome(status)
}

private final class Streams: Sendable {
    private struct State {
        var input: ArraySlice<UInt8>
        var output: [UInt8] = []
        var messages: [UInt8] = []
    }

    private let state: Mutex<State>

    init(_ input: [UInt8]) { state = Mutex(State(input: input[...])) }

    func read(_ count: Int) -> [UInt8] {
        state.withLock { state in
            defer { state.input = state.input.dropFirst(count) }
            return Array(state.input.prefix(count))
        }
    }

    func append(output bytes: [UInt8]) { state.withLock { $0.output += bytes } }

    func append(messages bytes: [UInt8]) { state.withLock { $0.messages += bytes } }

    func outcome(_ status: Int32) -> Outcome {
        state.withLock { state in
            Outcome(
                status: status,
                output: String(decoding: state.output, as: UTF8.self),
                messages: String(decoding: state.messages, as: UTF8.self)
            )
        }
    }
}

/// Reports such as servers and NATs make them.
enum Example {
    static let server = Endpoint(address: IPAddress(v4: 0xCB00_710A), port: 3_478)
    static let inside = Endpoint(address: IPAddress(v4: 0xC0A8_6402), port: 40_000)
    static let outside = Endpoint(address: IPAddress(v4: 0xCB00_7164), port: 41_234)

    static func nat(_ name: NATName) -> NATReport {
        var report = NATReport()
        report.name = .determined(name)
        report.isTranslated = .determined(name != .open)
        report.isFirewalled = .undetermined("addresses are translated")
        report.mapping = .determined(name == .symmetric ? .addressAndPortDependent : .endpointIndependent)
        report.filtering = .determined(.addressAndPortDependent)
        report.hairpin = .determined(false)
        report.allocation = .determined(.preserving)
        report.local = name == .open ? outside : inside
        report.mapped = outside
        report.answeringServers = [server]
        report.roundTripNanoseconds = 1_250_000
        if name == .blocked {
            report.mapped = nil
            report.answeringServers = []
            report.silentServers = [server]
        }
        return report
    }

    static func relay(_ outcome: NetworkReport.Relay.Outcome, by transport: TURNConfiguration.Transport = .udp)
        -> NetworkReport.Relay
    {
        NetworkReport.Relay(
            url: "turn:203.0.113.10:3478?transport=udp",
            transport: transport,
            address: server,
            outcome: outcome
        )
    }

    static let working = relay(.works(roundTripNanoseconds: 12_340_000, relayed: [server]))

    static let wrongPassword = relay(
        .reached(
            roundTripNanoseconds: 12_340_000,
            Problem(.wrongCredentials, "it does not accept them", mend: "correct TURN_USERNAME and TURN_PASSWORD")
        )
    )

    static let silent = relay(.failed(Problem(.silent, "it does not answer", mend: "use TCP")))

    static func signaling(_ problem: Problem? = nil, isReached: Bool = true) throws -> NetworkReport.Signaling {
        NetworkReport.Signaling(
            url: try ServerURL("wss://turn.example:8443/signal", usual: .wss),
            way: isReached
                ? WebSocketWay(server: server, roundTripNanoseconds: 12_340_000, tls: "TLSv1.3") : nil,
            trust: .fingerprints([[UInt8](repeating: 1, count: 32)]),
            problem: problem
        )
    }

    static func report(
        _ nat: NATReport?,
        _ relays: [NetworkReport.Relay],
        signaling: NetworkReport.Signaling? = nil
    ) -> NetworkReport {
        NetworkReport(
            ipv4: NetworkReport.Family(nat: nat, absence: nat == nil ? "no STUN server has such an address" : nil),
            ipv6: NetworkReport.Family(absence: "this machine has no IPv6 address"),
            relays: relays,
            signaling: signaling,
            tookNanoseconds: 1_234_567_890
        )
    }
}

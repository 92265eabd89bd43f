import DataChannels
import Foundation
import Lab
import STUN
import Signaling
import TestSupport
import Testing
import Traversal

@testable import TurnpikeClient

/// Whole clients, each in a home of its own, with the real TURN engine and the real hub.
///
///     core ─┬─ turn, signaling
///           ├─ alice's home ── alice
///           └─ bob's home ──── bob
final class ClientWorld {
    struct Home {
        var name: String
        /// nil: no NAT.
        var behavior: NATBehavior?
        var firewall = Firewall.stateful
        /// The router maps ports by PCP and NAT-PMP.
        var mapsPorts = false
    }

    let internet: Internet
    private(set) var clients: [String: LabClient] = [:]
    private let seed: UInt64

    init(
        _ homes: [Home],
        quality: LinkQuality = .access,
        v6: Bool = false,
        isMobile: Bool = false,
        seed: UInt64,
        configure: (String, inout Configuration) -> Void = { _, _ in }
    ) throws {
        // The stack's clock begins with this world's.
        SCTPStack.shared.forgetTime()
        self.seed = seed
        let users = Dictionary(uniqueKeysWithValues: homes.map { ($0.name, Self.password($0.name)) })
        internet = Internet(seed: seed) { net in
            net.relay("turn", users: users, v6: v6, quality) { $0.allowsMobility = isMobile }
            net.rendezvous("signaling", users: users, v6: v6, quality)
            for home in homes {
                if let behavior = home.behavior {
                    let router = net.nat(Self.router(home.name), behavior, firewall: home.firewall, quality) {
                        $0.host(home.name, v6: v6)
                    }
                    if home.mapsPorts { router.mapPorts() }
                } else if home.firewall.passesUDP && home.firewall.filtering == .endpointIndependent {
                    net.host(home.name, v6: v6, quality)
                } else {
                    net.firewall(Self.router(home.name), home.firewall, quality) { $0.host(home.name, v6: v6) }
                }
            }
        }
        for (index, home) in homes.enumerated() {
            var configuration = Self.configuration(home.name)
            configure(home.name, &configuration)
            clients[home.name] = try LabClient(
                home.name,
                on: internet.host(home.name),
                configuration,
                names: [
                    "turn.lab": (v6 ? [.ipv6, .ipv4] : [.ipv4]).map { internet.relay("turn").endpoint($0).address },
                    "signaling.lab": (v6 ? [.ipv6, .ipv4] : [.ipv4]).map {
                        internet.rendezvous("signaling").endpoint($0).address
                    },
                ],
                seed: seed &* 1_000 &+ UInt64(index)
            )
        }
    }

    static func password(_ name: String) -> String { "password of \(name)" }

    static func router(_ name: String) -> String { "\(name)'s home" }

    static func configuration(_ name: String) -> Configuration {
        Configuration(
            signalingServer: "ws://signaling.lab:8443/signal",
            username: name,
            password: password(name),
            peerID: PeerID(name),
            turnServers: [
                .init(url: "turn:turn.lab:3478", username: name, password: password(name))
            ]
        )
    }

    subscript(name: String) -> LabClient {
        guard let client = clients[name] else { preconditionFailure("there is no client \(name)") }
        return client
    }

    var alice: LabClient { self["alice"] }
    var bob: LabClient { self["bob"] }

    // MARK: Steps

    /// Starts all and waits until they are registered and have their relays, or longer than they need for that.
    func start(atMostSeconds limit: Double = 10) throws {
        for name in clients.keys.sorted() { self[name].start() }
        try internet.run(while: { !isWarm }, atMostSeconds: limit)
        // What was found last is on its way to nobody.
        try internet.run(seconds: 0.5)
    }

    private var isWarm: Bool {
        clients.values.allSatisfy { client in
            let hasRelay = client.client.servers.relayCount > 0 || !client.client.servers.hasRelayServers
            return client.isRegistered && hasRelay && client.client.servers.isReady
        }
    }

    var areOpen: Bool { alice.isOpen(to: "bob") && bob.isOpen(to: "alice") }
    var areDirect: Bool { areOpen && alice.isDirect(to: "bob") && bob.isDirect(to: "alice") }
    var areRelayed: Bool { areOpen && alice.isRelayed(to: "bob") && bob.isRelayed(to: "alice") }

    /// Alice connects to bob.
    /// - Returns: whether both have the connection in time.
    func meet(atMostSeconds limit: Double = 5) throws -> Bool {
        alice.connect(to: "bob")
        return try internet.run(while: { !areOpen }, atMostSeconds: limit)
    }

    /// Whether what each sends comes to the other.
    func exchange(atMostSeconds limit: Double = 2) throws -> Bool {
        var arrived: Set<String> = []
        let text = "hello at \(internet.now)"
        for client in [alice, bob] {
            client.onMessage = { _, message in if message.text == text { arrived.insert(client.name) } }
        }
        alice.send(Message(text), to: "bob")
        bob.send(Message(text), to: "alice")
        defer { for client in [alice, bob] { client.onMessage = { _, _ in } } }
        return try internet.run(while: { arrived.count < 2 }, atMostSeconds: limit)
    }

    /// What both have tried, for an issue.
    var comment: Comment { "\(alice.report(on: "bob"))\n\(bob.report(on: "alice"))" }

    /// Ends all clients, so that the next world has the SCTP stack for itself.
    func close() throws {
        for client in clients.values { client.client.close {} }
        try internet.run(seconds: 4)
        clients = [:]
    }
}

/// Runs `body` for each seed in virtual time, with the SCTP stack for itself.
func withWorlds(_ seeds: Range<UInt64>, _ body: @escaping @Sendable (UInt64) throws -> Void) async {
    await SCTPTime.virtualRuns {
        await withSeeds(seeds) { seed in try VirtualClock.run { try body(seed) } }
    }
}

/// How often each case runs: the number in the environment where it is there.
///
///     LAB_RUNS=100 swift test --filter TurnpikeClientTests
func runs(_ usual: UInt64) -> Range<UInt64> {
    let wanted = ProcessInfo.processInfo.environment["LAB_RUNS"].flatMap { UInt64($0) }
    return 0..<(wanted ?? usual)
}

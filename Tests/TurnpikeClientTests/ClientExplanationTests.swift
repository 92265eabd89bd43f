import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// Why a connection is direct or not, as whole clients tell it at both ends.
@Suite struct ClientExplanationTests {
    private struct Case: Sendable, CustomStringConvertible {
        let description: String
        let alice: NATBehavior?
        let bob: NATBehavior?
        var firewall = Firewall.stateful
        var require = ConnectOptions.Requirement.any
        /// What alice and bob are told.
        let causes: (Explanation.Cause, Explanation.Cause)
        let words: String
    }

    private static let cases: [Case] = [
        Case(
            description: "two symmetric NATs",
            alice: .symmetric,
            bob: .symmetric,
            causes: (.unpredictablePorts, .unpredictablePorts),
            words: "neither side can tell where to send to"
        ),
        Case(
            description: "two home routers",
            alice: .portRestricted,
            bob: .restricted,
            causes: (.punched, .punched),
            words: "Both sides have sent until the other was let in"
        ),
        Case(
            description: "a network without UDP",
            alice: .portRestricted,
            bob: .fullCone,
            firewall: .noUDP,
            causes: (.udpBlocked, .udpBlocked),
            words: "lets no UDP through"
        ),
        Case(
            description: "a required relay",
            alice: .fullCone,
            bob: .fullCone,
            require: .relay,
            causes: (.relayRequired, .relayRequired),
            words: "relays alone"
        ),
    ]

    @Test(arguments: cases.indices) func bothEndsTellWhy(index: Int) async {
        await withWorlds(runs(1)) { try Self.run(Self.cases[index], seed: $0) }
    }

    private static func run(_ example: Case, seed: UInt64) throws {
        let homes: [ClientWorld.Home] = [
            .init(name: "alice", behavior: example.alice, firewall: example.firewall),
            .init(name: "bob", behavior: example.bob),
        ]
        let world = try ClientWorld(homes, seed: seed)
        try world.start()
        world.alice.connect(to: "bob", ConnectOptions(require: example.require))
        #expect(try world.internet.run(while: { !world.areOpen }, atMostSeconds: 15), world.comment)
        try world.internet.run(while: { !world.tell(example.causes) }, atMostSeconds: 5)
        #expect(world.tell(example.causes), "\(example): \(world.explanations)")
        for explanation in world.explanations {
            #expect(explanation.description.lowercased().contains(example.words.lowercased()), "\(explanation)")
        }
        try world.close()
    }

    /// Nobody waits for the NAT's name before a call: it is told as soon as it is known.
    @Test func whatWasNotKnownAtTheCallIsToldLater() async {
        await withWorlds(runs(1)) { seed in
            let world = try ClientWorld(
                [.init(name: "alice", behavior: .symmetric), .init(name: "bob", behavior: .symmetric)],
                seed: seed
            )
            world.bob.start()
            try world.internet.run(seconds: 3)
            world.alice.client.start {}
            // Registers and calls in one, as `turnpike-peer connect` does.
            world.alice.connect(to: "bob")
            #expect(
                try world.internet.run(
                    while: { !world.bob.client.sessions.values.contains { $0.phase == .open } },
                    atMostSeconds: 5
                )
            )
            try world.internet.run(
                while: { world.bob.client.peerNetworks["alice"]?.ports != .random },
                atMostSeconds: 5
            )
            #expect(world.bob.client.peerNetworks["alice"]?.type == .symmetric)
            #expect(world.bob.client.peerNetworks["alice"]?.ports == .random)
            #expect(world.alice.client.peerNetworks["bob"]?.ports == .random)
            try world.close()
        }
    }

    @Test func aFailureHasTheExplanationInItsReport() async {
        await withWorlds(runs(1)) { seed in
            let world = try ClientWorld(
                [.init(name: "alice", behavior: .symmetric), .init(name: "bob", behavior: .symmetric)],
                seed: seed
            )
            try world.start()
            var failure: ConnectionFailure?
            world.alice.connect(to: "bob", ConnectOptions(require: .direct, timeout: .seconds(4))) {
                if case .failure(let found) = $0 { failure = found }
            }
            try world.internet.run(while: { failure == nil }, atMostSeconds: 10)
            #expect(failure?.report.explanation?.cause == .unpredictablePorts, "\(failure?.description ?? "none")")
            #expect(failure?.description.contains("Ask for UPnP or PCP on either router, or IPv6.") == true)
            try world.close()
        }
    }
}

extension ClientWorld {
    /// Alice's and bob's of their connection.
    fileprivate var explanations: [Explanation] {
        [alice.session(with: "bob"), bob.session(with: "alice")].compactMap { $0?.explanation }
    }

    fileprivate func tell(_ causes: (Explanation.Cause, Explanation.Cause)) -> Bool {
        explanations.map(\.cause) == [causes.0, causes.1]
    }
}

import STUN
import Testing
import Traversal

/// Peers that know nothing of renomination and keep to the nominated pair until consent is over (RFC 8445 section 8.1.1
/// and RFC 7675 section 5.1), as most agents in the world do.
@Suite struct FallbackTests {
    private static func plain() -> ICEConfiguration {
        var configuration = ICEConfiguration()
        configuration.silence = 1_000 * seconds
        configuration.death = 1_000 * seconds
        configuration.relayNominationDelay = 0
        return configuration
    }

    /// Data of a peer that follows nothing but nominations: by the nominated pair of the session, and until there is
    /// one by that of the last.
    private final class PlainSender {
        private let peer: SimulatedPeer
        private let network: SimulatedNetwork
        private var path: ICEPath?

        init(_ peer: SimulatedPeer, _ network: SimulatedNetwork) { (self.peer, self.network) = (peer, network) }

        func send() {
            if let current = peer.agent.path, current.isNominated { path = current }
            if let path { network.sendData(peer, by: path) }
        }
    }

    @Test(arguments: [ICERole.controlling, .controlled])
    func aDeadPathIsLeftByBothWithinTwoSeconds(role: ICERole) throws {
        for seed in 1...25 as ClosedRange<UInt64> {
            let network = SimulatedNetwork(seed: seed)
            let ours = try network.addPeer(.portRestricted, role: role)
            let plain = try network.addPeer(
                .portRestricted,
                role: role == .controlling ? .controlled : .controlling,
                Self.plain()
            )
            var restarts = 0
            ours.onRestartWanted = {
                restarts += 1
                network.restart(by: ours, with: plain, signaling: 30 * milliseconds, renomination: false)
            }
            network.connect(ours, plain, renomination: false)
            #expect(network.run(for: 10 * seconds) { network.isDirect }, "seed \(seed)")
            network.run(for: 5 * seconds)
            #expect(restarts == 0)
            let sender = PlainSender(plain, network)
            network.every(20 * milliseconds) {
                network.sendData(ours)
                sender.send()
            }
            network.run(for: 2 * seconds)
            let cut = network.now
            network.isDirectCut = true
            network.run(for: 4 * seconds)
            for (name, peer) in [("ours", ours), ("plain", plain)] {
                let again = peer.arrivals.first { $0 > cut + 100 * milliseconds } ?? .max
                let wait = again == .max ? .max : (again - cut) / milliseconds
                #expect(wait <= 2_000, "seed \(seed), at \(name): \(wait) ms\n\(peer.agent.report)")
            }
            #expect(restarts == 1, "seed \(seed)")
            network.isDirectCut = false
            #expect(network.run(for: 30 * seconds) { network.isDirect }, "seed \(seed)")
        }
    }

    /// What a peer follows by itself needs no signaling.
    @Test func aPeerWithRenominationIsNotRestarted() throws {
        for seed in 1...10 as ClosedRange<UInt64> {
            let network = SimulatedNetwork(seed: seed)
            let peers = [
                try network.addPeer(.portRestricted, role: .controlling),
                try network.addPeer(.portRestricted, role: .controlled),
            ]
            var restarts = 0
            for peer in peers { peer.onRestartWanted = { restarts += 1 } }
            network.connect(peers[0], peers[1])
            #expect(network.run(for: 5 * seconds) { network.isDirect })
            network.run(for: 5 * seconds)
            network.exchangeData(every: 20 * milliseconds) { true }
            network.isDirectCut = true
            #expect(network.run(for: 3 * seconds) { network.isRelayed })
            network.isDirectCut = false
            #expect(network.run(for: 5 * seconds) { network.isDirect })
            #expect(restarts == 0, "seed \(seed)")
        }
    }

    @Test func optionsAndPacingAreReadFromADescription() throws {
        let credentials = try ICECredentials(usernameFragment: "abcd", password: "0123456789012345678901")
        let one = ICERemoteParameters(credentials: credentials, options: ["trickle", "renomination"])
        #expect(one.supportsRenomination && one.pacing == nil)
        let other = ICERemoteParameters(credentials: credentials, options: ["trickle"], pacingMilliseconds: 20)
        #expect(!other.supportsRenomination && other.pacing == 20 * milliseconds)
    }

    /// RFC 8839 section 5.5: the larger of both values, and 50 ms for a side that tells none.
    @Test(arguments: [(20, nil, 50), (20, 20, 20), (20, 30, 30), (50, 20, 50), (1, 1, 5), (50, 9_999, 500)])
    func checksArePacedAsBothSidesAgree(own: UInt64, told: UInt32?, expected: UInt64) throws {
        let network = SimulatedNetwork(seed: 1)
        var configuration = ICEConfiguration()
        configuration.pacing = own * milliseconds
        let peer = try network.addPeer(nil, role: .controlling, relayed: false, configuration)
        let other = try network.addPeer(nil, role: .controlled, relayed: false)
        _ = network.gather(peer)
        let template = network.gather(other)[0]
        let candidates = (1...20).map { number in
            var candidate = template
            candidate.foundation = "f\(number)"
            candidate.address = .ip(IPAddress(v4: 0xC000_0200 + UInt32(number)))
            return candidate
        }
        let parameters = ICERemoteParameters(
            credentials: other.agent.localCredentials,
            options: [],
            pacingMilliseconds: told
        )
        network.accept(SimulatedNetwork.Description(parameters: parameters, candidates: candidates), by: peer)
        // The RTO is 500 ms at least, so these are first checks but for the slowest pace.
        let start = network.now
        let first = peer.sent.count
        #expect(first == 1)
        network.run(for: expected * milliseconds * 2 + milliseconds)
        #expect(Set(peer.sent.map(\.to)).count == 3, "\(network.now - start)")
    }
}

import STUN
import Testing
import Traversal

/// What an agent asks of its relays, and what it gives back.
@Suite struct PermissionTests {
    private func connected(seed: UInt64, _ second: SimulatedNAT.Kind? = .portRestricted) throws -> SimulatedNetwork {
        let network = SimulatedNetwork(seed: seed)
        let offerer = try network.addPeer(.portRestricted, role: .controlling)
        let answerer = try network.addPeer(second, role: .controlled)
        network.connect(offerer, answerer)
        #expect(network.run(for: 5 * seconds) { network.isConnected }, "seed \(seed)")
        return network
    }

    @Test func permissionsThatNoPairNeedsAreGivenBack() throws {
        let network = try connected(seed: 1)
        network.run(for: 10 * seconds)
        let (peer, other) = (network.peers[0], network.peers[1])
        // The other's address at home is no address here, and nobody answers from there.
        #expect(peer.permissions.contains(other.host.address))
        network.run(for: 100 * seconds)
        #expect(network.isDirect)
        #expect(!peer.permissions.contains(other.host.address))
        // What the pairs to fall back to need stays.
        let relay = try #require(other.relay)
        let nat = try #require(other.nat)
        #expect(peer.permissions == [relay.address, nat.address])
        #expect(peer.agent.counters.permissionsReleased == 1)
        network.run(for: 3_600 * seconds)
        #expect(peer.permissions == [relay.address, nat.address])
        #expect(peer.agent.counters.permissionsAsked == 3)
    }

    @Test func theEndOfAnAgentGivesAllBack() throws {
        let closed = try connected(seed: 2)
        let failed = try connected(seed: 3)
        for peer in closed.peers { closed.act(peer) { peer.agent.close(into: &$0) } }
        (failed.isDirectCut, failed.isRelayCut) = (true, true)
        failed.run(for: 60 * seconds)
        for peer in closed.peers + failed.peers {
            #expect(peer.permissions.isEmpty)
            #expect(peer.agent.counters.permissionsAsked == peer.agent.counters.permissionsReleased)
            #expect(peer.agent.counters.permissionsAsked > 0)
        }
    }

    /// Before the new session's pairs ask for the same, nothing is given back.
    @Test func aRestartKeepsThePermissionsItNeedsAgain() throws {
        let network = try connected(seed: 4)
        network.run(for: 5 * seconds)
        let peer = network.peers[0]
        let before = peer.permissions
        for _ in 0..<5 {
            network.restart(by: peer, with: network.peers[1], signaling: 400 * milliseconds)
            network.run(for: 10 * seconds)
            #expect(peer.permissions.isSuperset(of: before))
        }
        #expect(peer.agent.counters.permissionsAsked == 3)
        network.run(for: 100 * seconds)
        #expect(peer.agent.counters.permissionsReleased == 1)
    }

    @Test func aRefusedPeerFailsItsPairsByNameAndIsRememberedForAMinute() throws {
        let network = SimulatedNetwork(seed: 5)
        let peer = try network.addPeer(.portRestricted, role: .controlling)
        let other = try network.addPeer(.portRestricted, role: .controlled)
        _ = network.gather(peer)
        let candidates = network.gather(other)
        network.accept(network.describe(other, [candidates[0]]), by: peer)
        #expect(peer.permissions == [other.host.address])
        network.act(peer) {
            peer.agent.refuse(other.host.address, on: SimulatedPeer.relayBase, now: network.now, into: &$0)
        }
        let relay = try #require(peer.relay)
        var pairs: [ICEReport.Pair] { peer.agent.report.pairs.filter { $0.local == relay } }
        #expect(pairs.map(\.failure) == [.forbidden])
        #expect(pairs.first?.explanation == "the relay does not relay to this address")
        #expect(peer.agent.report.pairs.count { $0.failure == nil } == 1)
        // Another port of the same address is no better, and nobody is asked again.
        peer.permissions = []
        func name(port: UInt16) {
            var another = candidates[0]
            another.port = port
            network.act(peer) { peer.agent.addRemoteCandidate(another, now: network.now, into: &$0) }
        }
        name(port: 5_001)
        #expect(pairs.map(\.failure) == [.forbidden, .forbidden])
        #expect(peer.permissions.isEmpty)
        network.run(for: 61 * seconds)
        name(port: 5_002)
        #expect(pairs.count { $0.failure == nil } == 1)
        #expect(peer.permissions == [other.host.address])
    }

    @Test func aRefusalOfThePathInUseMovesItElsewhere() throws {
        let network = try connected(seed: 6, .symmetric)
        network.run(for: 10 * seconds)
        for peer in network.peers {
            let path = try #require(peer.agent.path)
            guard path.base == SimulatedPeer.relayBase else { continue }
            network.act(peer) {
                peer.agent.refuse(path.remote.address, on: path.base, now: network.now, into: &$0)
            }
            #expect(peer.agent.path?.remote.address != path.remote.address || peer.agent.path?.base != path.base)
        }
        #expect(network.peers.contains { $0.agent.report.pairs.contains { $0.failure == .forbidden } })
    }

    /// A check leaves from one address, so the two relayed addresses of an allocation are two bases.
    @Test func aBaseHasOneAddress() throws {
        let agent = ICEAgent(role: .controlling, cryptography: try SeededCryptography(seed: 7))
        let world = try TURNWorld(client: { $0.families = .both })
        world.relays.families = [.ipv4, .ipv6]
        world.start()
        let allocation = try #require(world.allocation)
        #expect(allocation.relayed.count == 2)
        let server = TURNWorld.server
        var actions: [ICEAction] = []
        func add(_ candidates: [ICELocalCandidate]) -> Int {
            candidates.count { agent.addLocalCandidate($0, now: 1, into: &actions) != nil }
        }
        let both = ICELocalCandidate.relayed(allocation, at: server, by: .udp) {
            ICEBase(rawValue: $0 == .ipv4 ? 10 : 11)
        }
        #expect(both.map(\.endpoint) == allocation.relayed)
        #expect(both.allSatisfy { $0.related == allocation.mapped && $0.server == server.address })
        #expect(add(both) == 2)
        #expect(agent.counters.candidatesOfOtherAddresses == 0)
        let one = ICELocalCandidate.relayed(allocation, at: server, by: .udp) { _ in ICEBase(rawValue: 12) }
        #expect(add(one) == 1)
        #expect(agent.counters.candidatesOfOtherAddresses == 1)
    }
}

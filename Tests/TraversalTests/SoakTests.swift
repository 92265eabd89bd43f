import Foundation
import OpenSSLCrypto
import STUN
import TURN
import TestSupport
import Testing
import Traversal

/// Hours of virtual time with all that happens to connections: nothing dies that the network let live, and nothing
/// grows. A quarter of an hour by default; TURNPIKE_SOAK_HOURS makes it longer, TURNPIKE_SOAK_SEED replays one.
@Suite struct SoakTests {
    private static let environment = ProcessInfo.processInfo.environment
    private static let hours = environment["TURNPIKE_SOAK_HOURS"].flatMap { Double($0) } ?? 0.25
    private static let seed = environment["TURNPIKE_SOAK_SEED"].flatMap { UInt64($0) } ?? 1
    private static let length = UInt64(max(0.1, hours) * 3_600) * seconds

    // MARK: Agents

    private enum Trouble: CaseIterable {
        case rebinding, otherAddress, bothRebound, loss, directCut, relayCut, cut, restart
    }

    /// With renomination and without; what asks for a restart gets one.
    @Test(arguments: [true, false])
    func twoPeersStayConnectedThroughAllThatPasses(renomination: Bool) throws {
        let network = SimulatedNetwork(seed: Self.seed)
        let peers = [
            try network.addPeer(.portRestricted, role: .controlling),
            try network.addPeer(.restricted, role: .controlled),
        ]
        let note = "TURNPIKE_SOAK_SEED=\(Self.seed)"
        network.grantRestarts(signaling: 50 * milliseconds, renomination: renomination)
        network.connect(peers[0], peers[1], renomination: renomination)
        #expect(network.run(for: 10 * seconds) { network.isDirect })
        network.exchangeData(every: 200 * milliseconds) { true }

        let end = network.now + Self.length
        var weights: [Int] = []
        var addresses: UInt32 = 0
        while network.now < end {
            let trouble = Trouble.allCases.randomElement(using: &network.generator) ?? .cut
            let duration = UInt64.random(in: 1...20, using: &network.generator) * seconds
            let victim = peers[Int.random(in: 0...1, using: &network.generator)]
            switch trouble {
            case .rebinding: victim.nat?.forget()
            case .bothRebound: for peer in peers { peer.nat?.forget() }
            case .otherAddress:
                addresses += 1
                victim.nat?.forget()
                victim.nat?.address = IPAddress(v4: 0xC633_6500 + addresses % 250)
            case .loss: network.lossPercent = 10
            case .directCut: network.isDirectCut = true
            case .relayCut: network.isRelayCut = true
            case .cut: (network.isDirectCut, network.isRelayCut) = (true, true)
            case .restart: victim.onRestartWanted?()
            }
            network.run(for: duration)
            (network.isDirectCut, network.isRelayCut, network.lossPercent) = (false, false, 0)
            #expect(network.run(for: 5 * seconds) { network.isConnected }, "\(note): \(trouble) for \(duration)")
            for peer in peers { peer.arrivals = [] }
            network.run(for: 20 * seconds)
            for peer in peers {
                #expect(peer.arrivals.count > 50, "\(note): \(trouble) for \(duration)\n\(peer.agent.report)")
                #expect(!peer.states.contains { $0.state == .failed }, "\(note): \(trouble)")
                #expect(peer.paths.last?.path == peer.agent.path, "\(note): \(trouble)")
                let counters = peer.agent.counters
                let held = counters.permissionsAsked - counters.permissionsReleased
                #expect(held <= 128 && peer.permissions.count <= Int(held), "\(note): \(trouble)")
                (peer.sent, peer.paths, peer.states, peer.channels) = ([], peer.paths.suffix(1), [], [])
            }
            weights.append(peers.reduce(0) { $0 + Self.weight(of: $1.agent) })
        }
        expectNoGrowth(weights, bound: 100_000)
    }

    // MARK: A client of a server

    /// The server is restarted, the way is lost and found, packets are lost, the NAT binds anew; peers come and go,
    /// some of them such as no server relays to.
    @Test func aRelayIsLostOnlyWithItsServerOrItsAddress() throws {
        let world = try TURNWorld(server: { $0.permissionsPerAllocation = 128 })
        var generator = SeededGenerator(seed: Self.seed)
        let note = "TURNPIKE_SOAK_SEED=\(Self.seed)"
        world.start()
        let end = world.now + max(Self.length, 3_600 * seconds)
        var (isLost, ends, relayed, round) = (false, 0, 0, UInt32(0))
        var lossPercent = 0
        var isCut = false
        world.onRequest = {
            isCut || Int.random(in: 0..<100, using: &generator) < lossPercent ? nil : $0
        }
        var weights: [Int] = []
        while world.now < end {
            round += 1
            // Two outages in a row would be longer than what is left of an allocation when it is refreshed.
            let wasCut = isCut
            (lossPercent, isCut) = (0, false)
            if world.hasEnded {
                #expect(isLost, "\(note): \(String(describing: world.failure))")
                ends += 1
                isLost = false
                world.client = TURNClient(world.client.configuration, with: world.cryptography)
                world.source.port &+= 1
                world.start()
            }
            let peer = Endpoint(address: IPAddress(v4: 0x0909_0000 + round), port: 5_000)
            for _ in 0..<10 { world.send("x", to: peer) }
            world.send("x", to: Endpoint(address: IPAddress(v4: 0x7F00_0000 + round % 200), port: 5_000))
            if round > 20 {
                world.perform { client, _, _ in client.forget(IPAddress(v4: 0x0909_0000 + round - 20)) }
            }
            switch Int.random(in: 0..<40, using: &generator) {
            case 0:
                world.restartServer()
                isLost = true
            case 1:
                world.source.port &+= 1
                isLost = true
            case 2...5: isCut = !wasCut
            case 6...12: lossPercent = 10
            default: break
            }
            world.advance(seconds: .random(in: 5...40, using: &generator))
            if !isLost, !isCut, world.atPeers.count > relayed { relayed = world.atPeers.count }
            weights.append(Self.weight(of: world.client))
        }
        #expect(relayed > Int(round) * 5, "\(note): \(relayed) of \(round)")
        #expect(ends > 0)
        expectNoGrowth(weights, bound: 20_000)
    }

    // MARK: Memory

    /// What is there at most in the last quarter is not much more than in the one before it, and never beyond what the
    /// limits allow.
    private func expectNoGrowth(_ weights: [Int], bound: Int) {
        let quarter = weights.count / 4
        let (third, last) = (weights.suffix(2 * quarter).prefix(quarter).max() ?? 0, weights.suffix(quarter).max() ?? 0)
        #expect(last <= bound, "\(last)")
        // A quarter of an hour is too short for all limits to be reached.
        if Self.hours >= 2 { #expect(last <= third + third / 4 + 500, "\(third), then \(last)") }
    }

    private static func weight(of value: Any) -> Int {
        TestSupport.weight(of: value, except: { $0 is OpenSSLCryptography })
    }
}

import STUN
import Testing

@testable import Traversal

/// Agents that find out what their path carries.
@Suite struct PathMTUTests {
    private func connected(
        _ kind: SimulatedNAT.Kind? = .portRestricted,
        longest: Int = 1_472,
        seed: UInt64 = 1,
        padding: Bool = true,
        renomination: Bool = true
    ) throws -> SimulatedNetwork {
        let network = SimulatedNetwork(seed: seed)
        network.longestDatagramBytes = longest
        let offerer = try network.addPeer(kind, role: .controlling)
        let answerer = try network.addPeer(kind, role: .controlled)
        network.connect(offerer, answerer, renomination: renomination, padding: padding)
        #expect(network.run(for: 5 * seconds) { network.isDirect }, "seed \(seed)")
        network.run(for: seconds)
        return network
    }

    private func send(_ network: SimulatedNetwork, by sender: SimulatedPeer, for time: UInt64) {
        let end = network.now + time
        func next() {
            guard network.now < end else { return }
            network.sendLongData(sender)
            // What the other side acknowledges is short.
            for peer in network.peers where peer !== sender { network.sendData(peer) }
            network.after(10 * milliseconds, next)
        }
        next()
        network.run(for: time)
    }

    @Test func eachDirectionFindsItsOwnSize() throws {
        for longest in [1_180, 1_260, 1_400, 1_472] {
            let network = try connected(longest: longest)
            let sender = network.peers[0]
            send(network, by: sender, for: 4 * seconds)
            #expect(sender.agent.datagramBytes == [1_147, 1_252, 1_392, 1_472].last { $0 <= longest })
            #expect(sender.sizes.last?.bytes ?? 1_147 == sender.agent.datagramBytes)
            #expect(network.peers[1].agent.datagramBytes == 1_147 && network.peers[1].sizes.isEmpty)
            #expect(sender.paths.count <= 3 && sender.agent.counters.refusedRequests == 0)
            let lengths = Set(sender.sent.map(\.bytes.count)).filter { $0 > 300 }
            #expect(lengths.isSubset(of: [1_252, 1_372, 1_392, 1_424, 1_464, 1_472]))
        }
    }

    @Test func aPeerThatHasNotSaidSoGetsNoPaddedCheck() throws {
        let network = try connected(padding: false)
        send(network, by: network.peers[0], for: 3 * seconds)
        #expect(network.peers[0].agent.datagramBytes == 1_147)
        #expect(network.peers[0].sent.allSatisfy { $0.bytes.count < 300 })
    }

    @Test func aRelayedPathIsNotAsked() throws {
        let network = try connected()
        send(network, by: network.peers[0], for: 2 * seconds)
        #expect(network.peers[0].agent.datagramBytes == 1_472)
        network.isDirectCut = true
        send(network, by: network.peers[0], for: 4 * seconds)
        #expect(network.isRelayed && network.peers[0].agent.datagramBytes == 1_147)
        network.peers[0].sent = []
        send(network, by: network.peers[0], for: 4 * seconds)
        #expect(network.peers[0].sent.allSatisfy { $0.bytes.count < 300 || $0.base == SimulatedPeer.socket })
        network.isDirectCut = false
        send(network, by: network.peers[0], for: 6 * seconds)
        #expect(network.isDirect && network.peers[0].agent.datagramBytes == 1_472)
    }

    /// A link on the way becomes narrower: the path stays, and its datagrams become shorter, in time for data to flow
    /// again within two seconds.
    @Test(arguments: [true, false]) func aBlackHoleMakesDatagramsShorter(isTwoWay: Bool) throws {
        for seed in 1...10 as ClosedRange<UInt64> {
            let network = try connected(seed: seed)
            let sender = network.peers[0]
            send(network, by: sender, for: 3 * seconds)
            network.longestDatagramBytes = 1_272
            let narrowed = network.now
            let end = narrowed + 4 * seconds
            func next() {
                guard network.now < end else { return }
                network.sendLongData(sender)
                if isTwoWay { network.sendData(network.peers[1]) }
                network.after(10 * milliseconds, next)
            }
            next()
            network.run(for: 4 * seconds)
            let fall = sender.sizes.first { $0.at > narrowed }
            #expect(fall.map { $0.bytes == 1_147 && $0.at - narrowed < 2 * seconds } ?? false, "seed \(seed)")
            #expect(sender.agent.datagramBytes == 1_252 && network.isDirect, "seed \(seed)")
            #expect(sender.paths.last?.at ?? 0 < narrowed, "seed \(seed): the path has changed")
        }
    }

    @Test func aRestartKeepsWhatIsKnown() throws {
        let network = try connected()
        let sender = network.peers[0]
        send(network, by: sender, for: 2 * seconds)
        let before = sender.sizes.count
        network.restart(by: sender, with: network.peers[1], signaling: 30 * milliseconds)
        send(network, by: sender, for: 4 * seconds)
        #expect(sender.agent.datagramBytes == 1_472 && sender.sizes.count == before)
    }
}

import STUN
import TestSupport
import Testing
import Traversal

/// What the caller is told of the path that data takes.
@Suite struct PathTests {
    @Test func aPathIsToldAgainWhenItTurnsOutToBeARelays() throws {
        let network = SimulatedNetwork(seed: 1)
        network.isDirectCut = true
        let offerer = try network.addPeer(nil, role: .controlling, relayed: false)
        let answerer = try network.addPeer(.portRestricted, role: .controlled)
        let (first, second) = (network.gather(offerer), network.gather(answerer))
        network.accept(network.describe(offerer, first), by: answerer)
        network.accept(network.describe(answerer, []), by: offerer)
        #expect(network.run(for: 5 * seconds) { offerer.agent.path?.isNominated == true })
        // A check alone says where a peer is, not what.
        #expect(offerer.agent.path?.remoteType == .peerReflexive)
        #expect(offerer.agent.path?.isRelayed == false)
        let relayed = try #require(second.first { $0.type == .relayed })
        network.act(offerer) { offerer.agent.addRemoteCandidate(relayed, now: network.now, into: &$0) }
        let told = try #require(offerer.paths.last?.path)
        #expect(told.isRelayed && told.remoteType == .relayed)
    }

    @Test func whatIsToldLastIsWhatIs() throws {
        for seed in 1...20 as ClosedRange<UInt64> {
            let network = SimulatedNetwork(seed: seed)
            let offerer = try network.addPeer(.restricted, role: .controlling)
            let answerer = try network.addPeer(.portRestricted, role: .controlled)
            network.connect(offerer, answerer, renomination: seed % 2 == 0)
            for second in 0..<120 as Range<UInt64> {
                if second == 20 { network.isDirectCut = true }
                if second == 60 { network.isDirectCut = false }
                network.run(for: seconds)
                for peer in network.peers {
                    #expect(peer.paths.last?.path == peer.agent.path, "seed \(seed), second \(second)")
                }
            }
            #expect(network.peers.allSatisfy { $0.paths.last?.path?.isNominated == true }, "seed \(seed)")
        }
    }

    @Test func aPathByOnesOwnRelayWantsAChannel() throws {
        let network = SimulatedNetwork(seed: 3)
        let offerer = try network.addPeer(.portRestricted, role: .controlling)
        let answerer = try network.addPeer(.symmetric, role: .controlled, relayed: false)
        network.connect(offerer, answerer)
        #expect(network.run(for: 5 * seconds) { network.isConnected })
        network.run(for: 20 * seconds)
        let path = try #require(offerer.agent.path)
        #expect(path.base == SimulatedPeer.relayBase)
        #expect(offerer.channels.last == path.remote)
        #expect(answerer.agent.path?.remoteType == .relayed && answerer.channels.isEmpty)
    }

    @Test func aPathSaysHowLongItsDatagramsMayBe() throws {
        let network = SimulatedNetwork(seed: 4)
        let offerer = try network.addPeer(.portRestricted, role: .controlling)
        let answerer = try network.addPeer(.portRestricted, role: .controlled)
        network.isDirectCut = true
        network.connect(offerer, answerer)
        #expect(network.run(for: seconds) { network.isRelayed })
        // A relay's server may be reached by IPv6, and adds an indication's headers.
        #expect(offerer.agent.path?.datagramBytes() == 1_280 - 48 - 48)
        network.isDirectCut = false
        #expect(network.run(for: 10 * seconds) { network.isDirect })
        #expect(offerer.agent.path?.datagramBytes() == 1_280 - 28)
        #expect(offerer.agent.path?.datagramBytes(linkBytes: 1_500) == 1_472)
        #expect(offerer.agent.path?.datagramBytes(linkBytes: 3) == 0)
        #expect(TURNConfiguration.Transport.allCases.map(\.overheadBytes) == [48, 0, 0, 85])
    }

    /// Without a new alarm the silence after it would be noticed at the next one, seconds later.
    @Test func sentDataMovesTheDeadlineAndSaysSo() throws {
        let network = SimulatedNetwork(seed: 5)
        let offerer = try network.addPeer(nil, role: .controlling, relayed: false)
        let answerer = try network.addPeer(nil, role: .controlled, relayed: false)
        #expect(!offerer.agent.noteSent(now: network.now))
        network.connect(offerer, answerer)
        #expect(network.run(for: 5 * seconds) { offerer.agent.path?.isNominated == true })
        network.run(for: seconds)
        let before = try #require(offerer.agent.nextDeadline)
        #expect(before > network.now + 600 * milliseconds)
        #expect(offerer.agent.noteSent(now: network.now))
        #expect(offerer.agent.nextDeadline == network.now + 600 * milliseconds)
        #expect(!offerer.agent.noteSent(now: network.now + 1))
    }

    // MARK: One socket for several agents, and streams

    @Test func aCheckSaysWhoseItIs() throws {
        let network = SimulatedNetwork(seed: 6)
        let offerer = try network.addPeer(nil, role: .controlling, relayed: false)
        let answerer = try network.addPeer(nil, role: .controlled, relayed: false)
        network.connect(offerer, answerer)
        network.run(for: seconds)
        var requests = 0
        for (bytes, other) in offerer.sent.map({ ($0.bytes, answerer) }) + answerer.sent.map({ ($0.bytes, offerer) }) {
            let fragment = bytes.withUnsafeBytes { Demultiplexer.localFragment($0) }
            let isRequest = bytes[0] == 0
            #expect(fragment == (isRequest ? other.agent.localCredentials.usernameFragment : nil))
            requests += isRequest ? 1 : 0
        }
        #expect(requests > 1)
        let nameless = try message(.binding, .request, TransactionID(high: 1, low: 1))
        for bytes in [nameless, [22, 254, 253], []] {
            #expect(bytes.withUnsafeBytes { Demultiplexer.localFragment($0) } == nil)
        }
        for name in ["abcd", "ab:cd", "ab\u{0}d:efgh", ":efgh"] {
            let bytes = try message(.binding, .request, TransactionID(high: 1, low: 1)) {
                $0.append(.username, Array(name.utf8))
            }
            #expect(bytes.withUnsafeBytes { Demultiplexer.localFragment($0) } == nil, "\(name)")
        }
    }

    @Test func datagramsComeOutOfAStreamAsTheyWentIn() throws {
        var generator = SeededGenerator(seed: 8)
        let datagrams = (0..<200).map { number in
            let count = number == 7 ? 65_535 : Int.random(in: 0...1_500, using: &generator)
            return (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
        }
        var stream: [UInt8] = []
        for datagram in datagrams { stream += try #require(datagram.withUnsafeBytes { StreamFraming.frame($0) }) }
        var framing = StreamFraming()
        var found: [[UInt8]] = []
        var rest = stream[...]
        while !rest.isEmpty {
            let piece = Array(rest.prefix(Int.random(in: 1...3_000, using: &generator)))
            rest = rest.dropFirst(piece.count)
            let isGood = piece.withUnsafeBytes { framing.append($0) { found.append(Array($0)) } }
            #expect(isGood)
        }
        #expect(found == datagrams.filter { !$0.isEmpty })
    }

    @Test func aFrameBeyondTheLimitEndsItsStream() {
        var framing = StreamFraming(limitBytes: 1_500)
        var found: [[UInt8]] = []
        let bytes: [UInt8] = [0, 1, 9, 0x05, 0xDD, 1, 2, 3]
        #expect(!bytes.withUnsafeBytes { framing.append($0) { found.append(Array($0)) } })
        #expect(found == [[9]])
        let long = [UInt8](repeating: 0, count: 65_536)
        #expect(long.withUnsafeBytes { StreamFraming.frame($0) } == nil)
    }
}

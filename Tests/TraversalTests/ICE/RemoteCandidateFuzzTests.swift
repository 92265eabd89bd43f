import STUN
import TestSupport
import Testing
import Traversal

/// What a peer tells of itself, changed and invented, while a session lives.
@Suite struct RemoteCandidateFuzzTests {
    private static let lines = [
        "candidate:1 1 udp 2122260223 192.168.1.7 5000 typ host generation 0 network-id 1 network-cost 10",
        "candidate:842163049 1 udp 1677729535 203.0.113.7 50123 typ srflx raddr 192.0.2.4 rport 5 ufrag Ab3d",
        "candidate:3 1 udp 41885439 198.18.1.1 50000 typ relay raddr 203.0.113.7 rport 50123",
        "candidate:4 1 udp 2122194687 2001:db8::7 5000 typ host",
        "candidate:5 1 tcp 1518280447 192.168.1.7 9 typ host tcptype active",
        "candidate:6 1 tcp 1518280447 192.168.1.7 5000 typ host tcptype passive",
        "candidate:7 1 udp 2122252543 8e4b0a0c-7e4e.local 51432 typ host",
        "candidate:8 2 udp 1 255.255.255.255 1 typ prflx",
    ].map { Array($0.utf8) }

    private let usualRounds = 250

    @Test func noCandidateTrapsFillsOrEndsTheSession() throws {
        var rest = fuzzRounds(usualRounds)
        // A few rounds are the same ones in every run.
        var generator =
            rest > usualRounds
            ? SeededGenerator(for: "noCandidateTrapsFillsOrEndsTheSession") : SeededGenerator(seed: 1)
        var heard = 0
        while rest > 0 {
            heard += try session(of: min(rest, 1_000), &generator)
            rest -= 1_000
        }
        #expect(heard > 0)
    }

    /// - Returns: how many candidates were read.
    private func session(of rounds: Int, _ generator: inout SeededGenerator) throws -> Int {
        let network = SimulatedNetwork(seed: generator.next())
        let offerer = try network.addPeer(.portRestricted, role: .controlling)
        let answerer = try network.addPeer(.fullCone, role: .controlled)
        let peers = [offerer, answerer]
        // At times before the peer is known.
        let isEarly = Bool.random(using: &generator)
        if !isEarly {
            network.connect(offerer, answerer)
            #expect(network.run(for: 10 * seconds) { network.isConnected })
        }
        var heard = 0
        for round in 0..<rounds {
            if isEarly, round == 50 { network.connect(offerer, answerer) }
            guard let target = peers.randomElement(using: &generator) else { continue }
            switch Int.random(in: 0..<40, using: &generator) {
            case 0: network.run(for: UInt64.random(in: 1...4_000, using: &generator) * milliseconds)
            case 1: network.act(target) { target.agent.endRemoteCandidates(now: network.now, into: &$0) }
            case 2...5: resolve(target, network, &generator)
            case 6: addLocal(target, network, &generator)
            case 7: describe(target, network, &generator)
            default:
                let candidates = (0..<4).compactMap { _ in candidate(&generator) }
                heard += candidates.count
                network.act(target) { actions in
                    for one in candidates { target.agent.addRemoteCandidate(one, now: network.now, into: &actions) }
                }
            }
            for peer in peers { (peer.sent, peer.channels) = ([], []) }
        }
        for peer in peers {
            let report = peer.agent.report
            #expect(report.pairs.count <= ICELimits.pairs)
            #expect(report.remoteCandidates <= ICELimits.remoteCandidates + ICELimits.names)
            #expect(peer.agent.permissionsHeld <= 128, "\(report.counters)")
        }
        // What stood before all the nonsense stands.
        if !isEarly { #expect(network.run(for: 20 * seconds) { network.isConnected }, "\(offerer.agent.report)") }
        return heard
    }

    private func candidate(_ generator: inout SeededGenerator) -> ICECandidate? {
        guard Bool.random(using: &generator) else { return invented(&generator) }
        var bytes = Self.lines.randomElement(using: &generator) ?? []
        for _ in 0..<Int.random(in: 0...3, using: &generator) where !bytes.isEmpty {
            let place = Int.random(in: 0..<bytes.count, using: &generator)
            bytes[place] = Array("0123456789:.abcdef -".utf8).randomElement(using: &generator) ?? 0
        }
        return try? CandidateLine.parse(String(decoding: bytes, as: UTF8.self))
    }

    /// No line says these, but whoever calls the agent might.
    private func invented(_ generator: inout SeededGenerator) -> ICECandidate {
        let addresses: [IPAddress] = [
            IPAddress(v4: 0), IPAddress(v4: .max), IPAddress(v4: 0x7F00_0001), IPAddress(v4: 0xE000_0001),
            IPAddress(v4: 0xC0A8_0107), IPAddress(v4: 0xC633_6401),
            IPAddress(v4: .random(in: .min ... .max, using: &generator)),
            IPAddress(high: 0, low: 0), IPAddress(high: .max, low: .max), IPAddress(high: 0xFE80 << 48, low: 7),
            IPAddress(high: 0x2001_0DB8 << 32, low: .random(in: .min ... .max, using: &generator)),
        ]
        let names = ["", "x.local", String(repeating: "n", count: 300), "a b", "8e4b0a0c-7e4e.local"]
        let isNamed = Int.random(in: 0..<6, using: &generator) == 0
        var candidate = ICECandidate(
            foundation: ["", "1", String(repeating: "f", count: 40)].randomElement(using: &generator) ?? "",
            transport: ICETransport.allCases.randomElement(using: &generator) ?? .udp,
            priority: [0, 1, .max, 0x7FFF_FFFF, 2_122_260_223].randomElement(using: &generator) ?? 0,
            address: isNamed
                ? .name(names.randomElement(using: &generator) ?? "")
                : .ip(addresses.randomElement(using: &generator) ?? IPAddress(v4: 0)),
            port: [0, 1, 9, .max, 5_000, .random(in: .min ... .max, using: &generator)]
                .randomElement(using: &generator) ?? 0,
            type: ICECandidateType.allCases.randomElement(using: &generator) ?? .host
        )
        candidate.component = [0, 1, 2, .max].randomElement(using: &generator) ?? 1
        candidate.usernameFragment = [nil, nil, "", "none"].randomElement(using: &generator) ?? nil
        return candidate
    }

    private func resolve(_ peer: SimulatedPeer, _ network: SimulatedNetwork, _ generator: inout SeededGenerator) {
        for name in peer.names + ["never.local"] {
            let address: IPAddress? =
                Bool.random(using: &generator) ? IPAddress(v4: .random(in: .min ... .max, using: &generator)) : nil
            network.act(peer) { peer.agent.resolve(name: name, to: address, now: network.now, into: &$0) }
        }
        peer.names = []
    }

    /// This side's own candidates come and go meanwhile.
    private func addLocal(_ peer: SimulatedPeer, _ network: SimulatedNetwork, _ generator: inout SeededGenerator) {
        let base = ICEBase(rawValue: .random(in: 10...30, using: &generator))
        let port = UInt16.random(in: 1_000...1_010, using: &generator)
        let local = ICELocalCandidate(
            base: base,
            type: ICECandidateType.allCases.randomElement(using: &generator) ?? .host,
            endpoint: Endpoint(address: IPAddress(v4: 0xC0A8_0107), port: port),
            transport: ICETransport.allCases.randomElement(using: &generator) ?? .udp,
            server: IPAddress(v4: 0xC612_0001)
        )
        let isGone = Bool.random(using: &generator)
        network.act(peer) { actions in
            peer.agent.addLocalCandidate(local, now: network.now, into: &actions)
            if isGone { peer.agent.remove(base, now: network.now, into: &actions) }
            peer.agent.noteUnreachable(local.endpoint, from: base)
            guard isGone else { return }
            let relay = SimulatedPeer.relayBase
            peer.agent.refuse(local.endpoint.address, on: relay, now: network.now, into: &actions)
        }
    }

    /// The description once more, with strange wishes and more candidates than there is room for; or another's, which
    /// only a restart would take.
    private func describe(_ peer: SimulatedPeer, _ network: SimulatedNetwork, _ generator: inout SeededGenerator) {
        guard peer.agent.state != .new, let other = network.peers.first(where: { $0 !== peer }) else { return }
        let stranger = try? ICECredentials(
            usernameFragment: String(repeating: "u", count: .random(in: 4...256, using: &generator)),
            password: String(repeating: "p", count: .random(in: 22...256, using: &generator))
        )
        let isOther = Int.random(in: 0..<3, using: &generator) == 0
        var parameters = ICERemoteParameters(
            credentials: isOther ? stranger ?? other.agent.localCredentials : other.agent.localCredentials,
            isLite: Int.random(in: 0..<8, using: &generator) == 0,
            supportsRenomination: Bool.random(using: &generator)
        )
        parameters.pacing = [nil, 0, 1, .max].randomElement(using: &generator) ?? nil
        let told = parameters
        let candidates = (0..<200).compactMap { _ in candidate(&generator) }
        network.act(peer) { actions in
            try? peer.agent.setRemote(told, candidates: candidates, now: network.now, into: &actions)
        }
    }
}

import STUN
import Testing
import Traversal

@Suite struct PriorityTests {
    /// RFC 8445 section 5.1.2.1 with the recommended preferences, a single address and component 1.
    @Test func candidatesHaveTheValuesOfTheFormula() {
        func priority(_ type: ICECandidateType) -> UInt32 { ICEPriority.candidate(type, .udp, localPreference: .max) }
        #expect(priority(.host) == 2_130_706_431)
        #expect(priority(.peerReflexive) == 1_862_270_975)
        #expect(priority(.serverReflexive) == 1_694_498_815)
        #expect(priority(.relayed) == 16_777_215)
        #expect(ICEPriority.candidate(.host, .udp, localPreference: .max, component: 2) == 2_130_706_430)
    }

    /// RFC 6544 section 4.2: active before passive before simultaneous, and all behind UDP.
    @Test func tcpComesBehindUDPAndItsDirectionsAreOrdered() {
        func priority(_ transport: ICETransport) -> UInt32 {
            ICEPriority.candidate(.host, transport, localPreference: .max)
        }
        #expect(priority(.udp) > priority(.tcpActive))
        #expect(priority(.tcpActive) > priority(.tcpPassive))
        #expect(priority(.tcpPassive) > priority(.tcpSimultaneous))
    }

    /// RFC 8445 section 6.1.2.3: 2^32 × min + 2 × max + (G > D).
    @Test func pairsHaveTheValuesOfTheFormula() {
        let (host, reflexive) = (2_130_706_431 as UInt32, 1_694_498_815 as UInt32)
        #expect(ICEPriority.pair(controlling: host, controlled: reflexive) == 7_277_816_997_797_167_103)
        #expect(ICEPriority.pair(controlling: reflexive, controlled: host) == 7_277_816_997_797_167_102)
        #expect(ICEPriority.pair(controlling: host, controlled: host) == 9_151_314_442_783_293_438)
        #expect(ICEPriority.pair(controlling: .max, controlled: .max) == UInt64.max - 1)
    }

    /// The server's own address is let in by both relays before anything is known of the peer, so this way is open
    /// first.
    @Test func theWayFromRelayToRelayOfOneServerIsTriedFirst() throws {
        let agent = ICEAgent(role: .controlled, cryptography: try SeededCryptography(seed: 1))
        let server = IPAddress(v4: 0xC612_0001)
        let (socket, relay) = (ICEBase(rawValue: 1), ICEBase(rawValue: 2))
        var actions: [ICEAction] = []
        let home = Endpoint(address: IPAddress(v4: 0x0A00_0001), port: 5000)
        _ = agent.addLocalCandidate(.init(base: socket, type: .host, endpoint: home), now: 1, into: &actions)
        let own = Endpoint(address: server, port: 50_000)
        _ = agent.addLocalCandidate(
            .init(base: relay, type: .relayed, endpoint: own, server: server),
            now: 1,
            into: &actions
        )
        let candidates = try [
            "candidate:1 1 udp 2130706431 10.0.1.1 5000 typ host",
            "candidate:2 1 udp 1694498815 198.51.100.1 5000 typ srflx raddr 10.0.1.1 rport 5000",
            "candidate:3 1 udp 16777215 198.18.0.1 50001 typ relay raddr 198.51.100.1 rport 5000",
        ]
        .map { try CandidateLine.parse($0) }
        let credentials = try ICECredentials(usernameFragment: "abcd", password: "0123456789012345678901")
        actions = []
        try agent.setRemote(
            ICERemoteParameters(credentials: credentials),
            candidates: candidates,
            now: 2,
            into: &actions
        )
        let checks = actions.compactMap { action -> (ICEBase, Endpoint)? in
            if case .send(let base, let target, _) = action { (base, target) } else { nil }
        }
        #expect(checks.map(\.0) == [relay])
        #expect(checks.map(\.1) == [Endpoint(address: server, port: 50_001)])
    }

    /// RFC 8445 section 5.1.1.3: equal type, base, server and transport.
    @Test func foundationsTellWhatIsAlike() throws {
        let agent = ICEAgent(role: .controlling, cryptography: try SeededCryptography(seed: 1))
        let (first, second) = (IPAddress(v4: 0x0A00_0001), IPAddress(v4: 0x0A00_0002))
        let (server, other) = (IPAddress(v4: 0xC612_0001), IPAddress(v4: 0xC612_0002))
        func reflexive(_ base: IPAddress, _ server: IPAddress, _ port: UInt16) -> String {
            agent.signaled(
                ICELocalCandidate(
                    base: ICEBase(rawValue: 1),
                    type: .serverReflexive,
                    endpoint: Endpoint(address: server, port: port),
                    baseEndpoint: Endpoint(address: base, port: port),
                    server: server
                )
            ).foundation
        }
        #expect(reflexive(first, server, 1) == reflexive(first, server, 2))
        #expect(reflexive(first, server, 1) != reflexive(second, server, 1))
        #expect(reflexive(first, server, 1) != reflexive(first, other, 1))
        let host = ICELocalCandidate(
            base: ICEBase(rawValue: 1),
            type: .host,
            endpoint: Endpoint(address: first, port: 1)
        )
        #expect(agent.signaled(host).foundation != reflexive(first, server, 1))
    }

    /// RFC 8421 section 4: both families take turns, global addresses first.
    @Test func familiesTakeTurns() {
        let six = (1...4).map { IPAddress(high: 0x2001_0db8_0000_0000, low: UInt64($0)) }
        let four = (1...2).map { IPAddress(v4: 0xC000_0200 + UInt32($0)) }
        let local = IPAddress(high: 0xFE80_0000_0000_0000, low: 1)
        let addresses = [local] + four + six
        let preferences = AddressOrder.preferences(addresses)
        let order = addresses.indices.sorted { preferences[$0] > preferences[$1] }.map { addresses[$0] }
        #expect(Set(preferences).count == addresses.count)
        #expect(order == [six[0], six[1], four[0], six[2], six[3], four[1], local])
        #expect(AddressOrder.preferences([]).isEmpty)
        #expect(AddressOrder.preferences([four[0]]) == [.max])
    }

    /// RFC 8445 section 6.1.2.4: reflexive candidates are replaced by their base, so two and two make two pairs, of
    /// which the agent without a relay checks one after the other.
    @Test func pairsThatSendTheSameAreOne() throws {
        let network = SimulatedNetwork(seed: 1)
        let first = try network.addPeer(.fullCone, role: .controlling, relayed: false)
        let second = try network.addPeer(.fullCone, role: .controlled, relayed: false)
        network.connect(first, second)
        network.run(for: 60 * milliseconds)
        let pairs = first.agent.report.pairs
        #expect(pairs.count == 2)
        #expect(pairs.allSatisfy { $0.localType == .host })
        #expect(pairs.map(\.remoteType) == [.host, .serverReflexive])
        // Their foundations differ, so neither is frozen; the better one is under way.
        #expect(pairs.map(\.state) == [.inProgress, .waiting])
    }

    /// RFC 8445 section 6.1.2.6.
    @Test func ofAFoundationOnlyTheBestWaitsAndTheOthersThawWhenItWorks() throws {
        let network = SimulatedNetwork(seed: 3)
        let first = try network.addPeer(nil, role: .controlling, relayed: false)
        let second = try network.addPeer(nil, role: .controlled, relayed: false)
        var candidates = network.gather(second)
        var twin = candidates[0]
        // Alike, and nobody is there.
        twin.port = 5_001
        twin.priority -= 1
        candidates.append(twin)
        _ = network.gather(first)
        network.accept(network.describe(second, candidates), by: first)
        network.accept(network.describe(first, []), by: second)
        #expect(first.agent.report.pairs.map(\.state) == [.inProgress, .frozen])
        network.run(for: seconds) { first.agent.path != nil }
        #expect(first.agent.report.pairs.map(\.state) != [.succeeded, .frozen])
    }
}

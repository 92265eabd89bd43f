import STUN
import Testing
import Traversal

/// Roles, early checks, trickle, names, lite peers, and how an agent says that it failed.
@Suite struct AgentTests {
    @Test(arguments: [ICERole.controlling, .controlled])
    func ofTwoWithOneRoleExactlyOneControlsInTheEnd(role: ICERole) throws {
        for seed in 1...20 as ClosedRange<UInt64> {
            let network = SimulatedNetwork(seed: seed)
            let offerer = try network.addPeer(.portRestricted, role: role)
            let answerer = try network.addPeer(.fullCone, role: role)
            network.connect(offerer, answerer)
            #expect(network.run(for: 5 * seconds) { network.isDirect }, "seed \(seed)")
            network.run(for: 2 * seconds)
            #expect(offerer.agent.role != answerer.agent.role, "seed \(seed)")
            #expect(network.peers.allSatisfy { $0.agent.path?.isNominated == true }, "seed \(seed)")
            #expect(network.peers.contains { $0.agent.counters.roleConflicts > 0 }, "seed \(seed)")
        }
    }

    /// The answer is slow; checks of the answerer come long before it, are answered at once, and count afterwards.
    @Test func checksBeforeTheAnswerAreAnsweredAndRemembered() throws {
        let network = SimulatedNetwork(seed: 2)
        let offerer = try network.addPeer(nil, role: .controlling, relayed: false)
        let answerer = try network.addPeer(.symmetric, role: .controlled, relayed: false)
        let offer = network.describe(offerer, network.gather(offerer))
        // No candidate of the answerer is ever told: its checks alone say where it is.
        network.accept(offer, by: answerer)
        _ = network.gather(answerer)
        network.run(for: 300 * milliseconds)
        #expect(offerer.agent.state == .new)
        #expect(offerer.agent.counters.answeredRequests > 0)
        #expect(answerer.agent.path != nil)
        network.accept(network.describe(answerer, []), by: offerer)
        #expect(network.run(for: seconds) { network.isDirect })
        #expect(offerer.agent.path?.remoteType == .peerReflexive)
    }

    @Test func earlyChecksAreBounded() throws {
        let network = SimulatedNetwork(seed: 2)
        let offerer = try network.addPeer(nil, role: .controlling, relayed: false)
        let answerer = try network.addPeer(nil, role: .controlled, relayed: false)
        network.accept(network.describe(offerer, network.gather(offerer)), by: answerer)
        _ = network.gather(answerer)
        network.run(for: 10 * milliseconds)
        let check = try #require(answerer.sent.first?.bytes)
        for port in 1...UInt16(ICELimits.earlyChecks + 5) {
            network.hand(
                check,
                to: offerer,
                SimulatedPeer.socket,
                from: Endpoint(address: answerer.host.address, port: port)
            )
        }
        #expect(offerer.agent.counters.earlyChecksBeyondLimit == 5)
        #expect(offerer.agent.counters.answeredRequests == UInt64(ICELimits.earlyChecks + 5))
    }

    @Test func candidatesMayTrickleInAnyOrder() throws {
        let network = SimulatedNetwork(seed: 4)
        let offerer = try network.addPeer(.portRestricted, role: .controlling)
        let answerer = try network.addPeer(.portRestricted, role: .controlled)
        let (first, second) = (network.gather(offerer), network.gather(answerer))
        // The offerer hears candidates before the answer, relay first; the answerer hears them one by one.
        network.act(offerer) { actions in
            for candidate in second.reversed() {
                offerer.agent.addRemoteCandidate(candidate, now: network.now, into: &actions)
            }
        }
        network.accept(network.describe(offerer, []), by: answerer)
        for (index, candidate) in first.reversed().enumerated() {
            network.after(UInt64(index + 1) * 200 * milliseconds) {
                network.act(answerer) { answerer.agent.addRemoteCandidate(candidate, now: network.now, into: &$0) }
            }
        }
        network.after(250 * milliseconds) { network.accept(network.describe(answerer, []), by: offerer) }
        #expect(network.run(for: 5 * seconds) { network.isDirect }, "\(offerer.agent.report)")
    }

    @Test func candidatesOfAnotherSessionOrComponentAreIgnored() throws {
        let network = SimulatedNetwork(seed: 4)
        let offerer = try network.addPeer(nil, role: .controlling)
        let answerer = try network.addPeer(nil, role: .controlled)
        _ = network.gather(offerer)
        var candidates = network.gather(answerer)
        candidates[0].component = 2
        network.accept(network.describe(answerer, candidates), by: offerer)
        candidates[1].usernameFragment = "other"
        network.act(offerer) { offerer.agent.addRemoteCandidate(candidates[1], now: network.now, into: &$0) }
        #expect(offerer.agent.counters.candidatesIgnored == 2)
        #expect(offerer.agent.report.remoteCandidates == 1)
    }

    @Test func namesAreResolvedByTheCallerAndReportedIfNobodyCan() throws {
        let network = SimulatedNetwork(seed: 6)
        let offerer = try network.addPeer(nil, role: .controlling, relayed: false)
        let answerer = try network.addPeer(nil, role: .controlled, relayed: false)
        var hidden = network.gather(answerer)[0]
        hidden.address = .name("8e4b0a0c.local")
        var lost = hidden
        lost.address = .name("nobody.local")
        _ = network.gather(offerer)
        network.accept(network.describe(answerer, [hidden, lost]), by: offerer)
        network.accept(network.describe(offerer, []), by: answerer)
        #expect(offerer.names == ["8e4b0a0c.local", "nobody.local"])
        network.act(offerer) {
            offerer.agent.resolve(name: "8e4b0a0c.local", to: answerer.host.address, now: network.now, into: &$0)
            offerer.agent.resolve(name: "nobody.local", to: nil, now: network.now, into: &$0)
        }
        #expect(network.run(for: seconds) { network.isDirect })
        #expect(offerer.agent.report.unresolvedNames == ["nobody.local"])
    }

    /// A responder that has just started is asked three times in all.
    @Test func aNameThatNobodyKnewIsAskedForAgain() throws {
        for successAt in [2, 3, 4] {
            let network = SimulatedNetwork(seed: 6)
            let offerer = try network.addPeer(nil, role: .controlling, relayed: false)
            let answerer = try network.addPeer(nil, role: .controlled, relayed: false)
            var hidden = network.gather(answerer)[0]
            hidden.address = .name("8e4b0a0c.local")
            _ = network.gather(offerer)
            network.accept(network.describe(answerer, [hidden]), by: offerer)
            for count in 1...4 {
                guard offerer.names.count == count else { break }
                let address = count == successAt ? answerer.host.address : nil
                network.act(offerer) {
                    offerer.agent.resolve(name: "8e4b0a0c.local", to: address, now: network.now, into: &$0)
                }
                network.run(for: 5 * seconds)
            }
            #expect(offerer.names.count == min(successAt, 3))
            #expect(offerer.agent.report.unresolvedNames.isEmpty == (successAt <= 3))
            #expect(offerer.agent.report.pairs.count == (successAt <= 3 ? 1 : 0))
        }
    }

    /// A caller may give up before the agent does, and then wants to know why.
    @Test func whyThereIsNoPathIsKnownAtAnyTime() throws {
        let network = SimulatedNetwork(seed: 10)
        let offerer = try network.addPeer(.portRestricted, role: .controlling)
        let answerer = try network.addPeer(.portRestricted, role: .controlled)
        (network.isDirectCut, network.isRelayCut) = (true, true)
        var failure: ICEFailure? { offerer.agent.report.failure }
        #expect(failure == .noLocalCandidates)
        _ = network.gather(offerer)
        #expect(failure == .noAnswer)
        let candidates = network.gather(answerer)
        network.accept(network.describe(answerer, []), by: offerer)
        #expect(failure == .noRemoteCandidates)
        network.accept(network.describe(answerer, candidates), by: offerer)
        #expect(failure == .unanswered)
        #expect(offerer.agent.report.description.contains("so far: no pair of addresses has answered yet"))
        network.run(for: 28 * seconds)
        #expect(offerer.agent.state == .checking)
        #expect(failure == .allPairsFailed)
        let connected = SimulatedNetwork(seed: 11)
        let peers = [try connected.addPeer(nil, role: .controlling), try connected.addPeer(nil, role: .controlled)]
        connected.connect(peers[0], peers[1])
        #expect(connected.run(for: seconds) { connected.isConnected })
        #expect(peers[0].agent.report.failure == nil)
    }

    /// It answers and asks nothing, so the full agent controls, whatever it was told (RFC 8445 section 6.1.1).
    @Test func aLitePeerIsControlled() throws {
        let network = SimulatedNetwork(seed: 8)
        let full = try network.addPeer(.portRestricted, role: .controlled, relayed: false)
        // A lite agent is one that never learns of the other's candidates and does nothing but answer.
        let lite = try network.addPeer(nil, role: .controlled, relayed: false)
        let candidates = network.gather(lite)
        _ = network.gather(full)
        network.act(full) { actions in
            let parameters = ICERemoteParameters(credentials: lite.agent.localCredentials, isLite: true)
            try? full.agent.setRemote(parameters, now: network.now, into: &actions)
            full.agent.addRemoteCandidate(candidates[0], now: network.now, into: &actions)
        }
        network.run(for: 2 * seconds)
        #expect(full.agent.role == .controlling)
        #expect(full.agent.path?.isNominated == true)
        #expect(lite.sent.allSatisfy { $0.bytes[0] == 1 })
        network.run(for: 120 * seconds)
        #expect(full.agent.path != nil)
    }

    @Test func aFailureTellsEachPairAndWhy() throws {
        let network = SimulatedNetwork(seed: 10)
        let offerer = try network.addPeer(.portRestricted, role: .controlling)
        let answerer = try network.addPeer(.symmetric, role: .controlled)
        network.isRelayCut = true
        network.connect(offerer, answerer)
        network.run(for: seconds)
        let relay = try #require(answerer.relay)
        offerer.agent.noteUnreachable(relay, from: SimulatedPeer.socket)
        #expect(network.run(for: 60 * seconds) { offerer.agent.state == .failed })
        let report = try #require(offerer.reports.first)
        #expect(report.failure == .allPairsFailed)
        #expect(report.pairs.count == 6)
        #expect(report.pairs.allSatisfy { $0.state == .failed && $0.checksSent == 6 && $0.answersReceived == 0 })
        #expect(report.pairs.contains { $0.failure == .unreachable && $0.remote == relay })
        #expect(report.pairs.count { $0.failure == .noAnswer } == 5)
        let text = report.description
        #expect(text.contains("no pair of addresses answered"))
        #expect(text.contains("host 192.168.1.0:5000 -> relay 198.18.1.2:50000: the network says"))
        #expect(offerer.agent.nextDeadline == nil)
    }

    @Test func withoutCandidatesTheReportSaysWhichSideHasNone() throws {
        for (hasLocal, failure) in [(false, ICEFailure.noLocalCandidates), (true, .noRemoteCandidates)] {
            let network = SimulatedNetwork(seed: 1)
            let peer = try network.addPeer(nil, role: .controlling, relayed: false)
            let other = try network.addPeer(nil, role: .controlled, relayed: false)
            if hasLocal { _ = network.gather(peer) }
            network.accept(network.describe(other, []), by: peer)
            let start = network.now
            // RFC 8863 section 4: not before the peer's checks could have come.
            #expect(network.run(for: 60 * seconds) { peer.agent.state == .failed })
            #expect(network.now - start == ICEConfiguration().patience)
            #expect(peer.reports.first?.failure == failure)
        }
    }

    /// Checks leave Ta apart, whatever the number of pairs (RFC 8445 section 14.2).
    @Test func checksArePaced() throws {
        let network = SimulatedNetwork(seed: 1)
        let peer = try network.addPeer(nil, role: .controlling, relayed: false)
        let other = try network.addPeer(nil, role: .controlled, relayed: false)
        _ = network.gather(peer)
        let template = network.gather(other)[0]
        let candidates = (1...40).map { number in
            var candidate = template
            candidate.foundation = "f\(number)"
            candidate.address = .ip(IPAddress(v4: 0xC000_0200 + UInt32(number)))
            return candidate
        }
        network.accept(network.describe(other, candidates), by: peer)
        network.run(for: 975 * milliseconds)
        // The first left while it was the only one, so its RTO was 500 ms; that of the others is up to 40 × 50 ms
        // (section
        // 14.3), and none of them is retransmitted yet.
        #expect(peer.sent.count == 21)
        #expect(Set(peer.sent.map(\.to)).count == 20)
    }

    @Test func stateIsBoundedWhateverThePeerNames() throws {
        let network = SimulatedNetwork(seed: 1)
        let peer = try network.addPeer(nil, role: .controlling)
        let other = try network.addPeer(nil, role: .controlled)
        _ = network.gather(peer)
        let template = network.gather(other)[0]
        for number in 1...UInt32(300) {
            var candidate = template
            candidate.address =
                number % 10 == 0 ? .name("n\(number).local") : .ip(IPAddress(v4: 0xC000_0000 + number))
            network.act(peer) { peer.agent.addRemoteCandidate(candidate, now: network.now, into: &$0) }
            let local = ICELocalCandidate(
                base: ICEBase(rawValue: number),
                type: .host,
                endpoint: Endpoint(address: peer.host.address, port: UInt16(number))
            )
            network.act(peer) { _ = peer.agent.addLocalCandidate(local, now: network.now, into: &$0) }
        }
        network.accept(network.describe(other, []), by: peer)
        let report = peer.agent.report
        #expect(report.pairs.count == ICELimits.pairs)
        #expect(report.remoteCandidates == ICELimits.remoteCandidates + ICELimits.names)
        #expect(report.localCandidates == ICELimits.localCandidates)
        #expect(report.counters.candidatesBeyondLimit > 200 && report.counters.pairsBeyondLimit > 1_000)
    }

    /// RFC 8445 section 6.1.2.2: one family on both sides, and addresses of a link only with their like.
    @Test func onlyAddressesThatCanReachEachOtherMakeAPair() throws {
        let network = SimulatedNetwork(seed: 1)
        let peer = try network.addPeer(nil, role: .controlling, relayed: false)
        let other = try network.addPeer(nil, role: .controlled, relayed: false)
        let link = IPAddress(high: 0xFE80_0000_0000_0003, low: 1)
        let global = IPAddress(high: 0x2001_0db8_0000_0000, low: 1)
        network.act(peer) { actions in
            for (number, address) in [link, global].enumerated() {
                let endpoint = Endpoint(address: address, port: UInt16(100 + number))
                let local = ICELocalCandidate(base: ICEBase(rawValue: UInt32(number)), type: .host, endpoint: endpoint)
                let signaled = peer.agent.addLocalCandidate(local, now: network.now, into: &actions)
                // The number of the link is this host's own affair.
                #expect(signaled?.address == .ip(address.withoutLink))
            }
        }
        let template = network.gather(other)[0]
        let addresses = [other.host.address, IPAddress(high: 0xFE80_0000_0000_0000, low: 2), global]
        let candidates = addresses.enumerated().map { number, address in
            var candidate = template
            candidate.address = .ip(address)
            candidate.port = UInt16(200 + number)
            return candidate
        }
        network.accept(network.describe(other, [candidates[0]]), by: peer)
        #expect(peer.agent.report.pairs.isEmpty)
        network.accept(network.describe(other, candidates), by: peer)
        #expect(Set(peer.agent.report.pairs.map { [$0.local.port, $0.remote.port] }) == [[100, 201], [101, 202]])
    }

    /// Active on this side, passive on the other; one who listens waits (RFC 6544 section 6.2).
    @Test func tcpCandidatesPairByDirection() throws {
        let network = SimulatedNetwork(seed: 1)
        let peer = try network.addPeer(nil, role: .controlling, relayed: false)
        let other = try network.addPeer(nil, role: .controlled, relayed: false)
        network.act(peer) { actions in
            for (number, transport) in ICETransport.allCases.enumerated() {
                let local = ICELocalCandidate(
                    base: ICEBase(rawValue: UInt32(number)),
                    type: .host,
                    endpoint: Endpoint(address: peer.host.address, port: UInt16(100 + number)),
                    transport: transport
                )
                peer.agent.addLocalCandidate(local, now: network.now, into: &actions)
            }
        }
        var candidates: [ICECandidate] = []
        for (number, transport) in ICETransport.allCases.enumerated() {
            var candidate =
                network.gather(other).first
                ?? peer.agent.signaled(
                    ICELocalCandidate(base: SimulatedPeer.socket, type: .host, endpoint: other.host)
                )
            candidate.transport = transport
            candidate.port = UInt16(200 + number)
            candidates.append(candidate)
        }
        network.accept(network.describe(other, candidates), by: peer)
        let pairs = peer.agent.report.pairs.map { [$0.local.port, $0.remote.port] }
        #expect(Set(pairs) == [[100, 200], [101, 202], [103, 203]])
    }

    @Test func aClosedAgentIsSilent() throws {
        let network = SimulatedNetwork(seed: 1)
        let peer = try network.addPeer(nil, role: .controlling)
        let other = try network.addPeer(nil, role: .controlled)
        network.connect(peer, other)
        network.run(for: seconds)
        network.act(peer) { peer.agent.close(into: &$0) }
        let count = peer.sent.count
        network.run(for: 60 * seconds)
        #expect(peer.sent.count == count && peer.agent.state == .closed && peer.agent.nextDeadline == nil)
    }

    @Test func theFirstByteTellsProtocolsApart() {
        func kind(_ byte: UInt8) -> Demultiplexer.Kind { withUnsafeBytes(of: byte) { Demultiplexer.kind($0) } }
        #expect([0, 3].map(kind) == [.stun, .stun] && [4, 19].map(kind) == [.unknown, .unknown])
        #expect([20, 63].map(kind) == [.dtls, .dtls] && [64, 79].map(kind) == [.channelData, .channelData])
        #expect([128, 191].map(kind) == [.media, .media] && [80, 127, 192, 255].allSatisfy { kind($0) == .unknown })
        #expect(Demultiplexer.kind(UnsafeRawBufferPointer(start: nil, count: 0)) == .unknown)
    }
}

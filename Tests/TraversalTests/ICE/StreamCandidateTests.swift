import STUN
import Testing
import Traversal

/// Candidates over TCP (RFC 6544): which pairs there are, and when connections are wanted.
@Suite struct StreamCandidateTests {
    private static let socket = ICEBase(rawValue: 1)
    private static let port = ICEBase(rawValue: 2)
    private static let home = Endpoint(address: IPAddress(v4: 0x0A00_0001), port: 5_000)
    private static let lines = [
        "candidate:1 1 tcp 1500000000 10.0.1.1 6000 typ host tcptype so",
        "candidate:1 1 tcp 1500000000 10.0.1.1 6000 typ host tcptype passive",
        "candidate:1 1 tcp 1500000000 10.0.1.1 9 typ host tcptype active",
        "candidate:2 1 tcp 1100000000 198.51.100.1 6000 typ srflx raddr 10.0.1.1 rport 6000 tcptype so",
    ]
    private static let datagrams = "candidate:3 1 udp 2130706431 10.0.1.1 5000 typ host"

    /// An agent with a socket and a port, and the peer's description.
    private final class Bench {
        let agent: ICEAgent
        var now: UInt64 = 1 * seconds
        private(set) var actions: [ICEAction] = []
        private(set) var told: [ICECandidate] = []
        /// What a test asks for beside.
        var unused: [ICEAction] = []
        private let remote: ICECredentials

        init(hasSocket: Bool = false, lines: [String], isToldToWait: Bool = false) throws {
            agent = ICEAgent(role: .controlling, cryptography: try SeededCryptography(seed: 1))
            remote = try ICECredentials(usernameFragment: "abcd", password: "0123456789012345678901")
            if hasSocket { add(.udp, StreamCandidateTests.socket) }
            for transport in [ICETransport.tcpSimultaneous, .tcpPassive, .tcpActive] {
                add(transport, StreamCandidateTests.port)
            }
            if isToldToWait { agent.beginStreams(at: 2 * seconds, now: now, into: &actions) }
            try agent.setRemote(
                ICERemoteParameters(credentials: remote),
                candidates: lines.map { try CandidateLine.parse($0) },
                now: now,
                into: &actions
            )
        }

        private func add(_ transport: ICETransport, _ base: ICEBase) {
            let candidate = ICELocalCandidate(
                base: base,
                type: .host,
                endpoint: StreamCandidateTests.home,
                transport: transport
            )
            if let signaled = agent.addLocalCandidate(candidate, now: now, into: &actions) { told.append(signaled) }
        }

        /// Runs, and answers every check over UDP where it is asked to.
        func run(for nanoseconds: UInt64, answersDatagrams: Bool = false) {
            let end = now + nanoseconds
            if answersDatagrams {
                for case .send(StreamCandidateTests.socket, let peer, let bytes) in actions {
                    answer(bytes, from: peer)
                }
            }
            while let deadline = agent.nextDeadline, deadline <= end {
                now = max(now, deadline)
                var fresh: [ICEAction] = []
                agent.advance(now: now, into: &fresh)
                actions += fresh
                guard answersDatagrams else { continue }
                for case .send(StreamCandidateTests.socket, let peer, let bytes) in fresh { answer(bytes, from: peer) }
            }
            now = end
        }

        private func answer(_ check: [UInt8], from peer: Endpoint) {
            guard let transaction = check.withUnsafeBytes({ try? MessageView($0).transactionID }) else { return }
            let key = Array(remote.password.utf8)
            guard let cryptography = try? SeededCryptography(seed: 2) else { return }
            let answer = [UInt8](unsafeUninitializedCapacity: 128) { buffer, count in
                var builder = MessageBuilder(
                    MessageType(.binding, .successResponse),
                    transaction,
                    into: UnsafeMutableRawBufferPointer(buffer)
                )
                builder.append(.xorMappedAddress, xor: StreamCandidateTests.home)
                key.withUnsafeBytes { builder.append(.sha1, key: $0, with: cryptography) }
                builder.appendFingerprint()
                count = builder.finish() ?? 0
            }
            answer.withUnsafeBytes {
                _ = agent.receive($0, on: StreamCandidateTests.socket, from: peer, now: now, into: &actions)
            }
        }

        var connects: [Endpoint] {
            var seen: [Endpoint] = []
            for case .connect(StreamCandidateTests.port, let peer) in actions where !seen.contains(peer) {
                seen.append(peer)
            }
            return seen
        }

        var checks: Int {
            actions.count { if case .send(StreamCandidateTests.port, _, _) = $0 { true } else { false } }
        }

        func forget() { actions = [] }
    }

    @Test func anActiveCandidateIsToldWithThePortThatDiscards() throws {
        let bench = try Bench(lines: [])
        #expect(bench.told.map(\.transport) == [.tcpSimultaneous, .tcpPassive, .tcpActive])
        #expect(bench.told.map(\.port) == [5_000, 5_000, 9])
        #expect(bench.told.map(CandidateLine.text).map { $0.contains("tcptype") } == [true, true, true])
    }

    /// Both ways of connecting to one port of the peer's lead to one connection, and nobody connects to port 9.
    @Test func eachPortOfThePeerIsConnectedToOnce() throws {
        let bench = try Bench(lines: Self.lines)
        #expect(bench.agent.report.pairs.count == 2)
        #expect(Set(bench.agent.report.pairs.map(\.transport)) == [.tcpSimultaneous])
        bench.run(for: 1 * seconds)
        #expect(Set(bench.connects.map(\.port)) == [6_000] && bench.connects.count == 2)
        #expect(bench.checks == 2)
    }

    @Test func connectionsBeginAtTheMomentThatBothSidesKnow() throws {
        let bench = try Bench(lines: Self.lines, isToldToWait: true)
        bench.run(for: 1 * seconds - 1)
        #expect(bench.connects.isEmpty && bench.checks == 0)
        bench.run(for: 1)
        // All at once, and the checks one after the other.
        #expect(bench.connects.count == 2)
    }

    @Test func withoutAnAppointmentTheyBeginAQuarterOfASecondBehindTheDescription() throws {
        let bench = try Bench(lines: Self.lines)
        bench.run(for: 249 * milliseconds)
        #expect(bench.connects.isEmpty)
        bench.run(for: 2 * milliseconds)
        #expect(bench.connects.count == 2)
    }

    @Test func aDirectPathByUDPLeavesThemAlone() throws {
        let bench = try Bench(hasSocket: true, lines: Self.lines + [Self.datagrams])
        bench.run(for: 20 * seconds, answersDatagrams: true)
        #expect(bench.agent.path?.transport == .udp)
        #expect(bench.connects.isEmpty && bench.checks == 0)
        // There is nothing else under way, so the agent says that it is done.
        bench.agent.endLocalCandidates(now: bench.now, into: &bench.unused)
        bench.agent.endRemoteCandidates(now: bench.now, into: &bench.unused)
        #expect(bench.agent.state == .completed)
        // When it dies, they are tried.
        bench.run(for: 20 * seconds)
        #expect(bench.connects.count == 2)
    }

    @Test func aConnectionThatComesInIsCheckedWhateverElseThereIs() throws {
        let bench = try Bench(hasSocket: true, lines: [Self.datagrams])
        bench.run(for: 2 * seconds, answersDatagrams: true)
        bench.forget()
        let stranger = Endpoint(address: IPAddress(v4: 0xC633_6407), port: 40_000)
        var request = [UInt8](repeating: 0, count: 256)
        let cryptography = try SeededCryptography(seed: 3)
        let local = bench.agent.localCredentials
        let length = request.withUnsafeMutableBytes { buffer in
            var builder = MessageBuilder(MessageType(.binding, .request), TransactionID(high: 1, low: 2), into: buffer)
            builder.append(.username, Array("\(local.usernameFragment):abcd".utf8))
            builder.append(AttributeType(rawValue: 0x0024), UInt32(1_000))
            builder.append(AttributeType(rawValue: 0x8029), UInt64(0))
            Array(local.password.utf8).withUnsafeBytes { builder.append(.sha1, key: $0, with: cryptography) }
            builder.appendFingerprint()
            return builder.finish() ?? 0
        }
        request.withUnsafeBytes {
            let message = UnsafeRawBufferPointer(rebasing: $0[..<length])
            _ = bench.agent.receive(message, on: Self.port, from: stranger, now: bench.now, into: &bench.unused)
        }
        bench.run(for: 1 * seconds, answersDatagrams: true)
        let pair = bench.agent.report.pairs.first { $0.remote == stranger }
        #expect(pair?.transport == .tcpPassive && pair?.checksSent == 1)
        // It has connected, so nobody here connects to it.
        #expect(bench.connects.isEmpty)
    }
}

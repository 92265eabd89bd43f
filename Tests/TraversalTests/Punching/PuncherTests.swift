import OpenSSLCrypto
import STUN
import Testing

@testable import Traversal

/// One side of a search, with everything else by hand.
@Suite struct PuncherTests {
    private static let server = Endpoint("198.51.100.9", 3_478)
    private static let seen = Endpoint("203.0.113.1", 40_000)
    private static let peer = IPAddress("192.0.2.7")

    /// The side itself, and what it wants done.
    private final class Bench {
        let puncher: Puncher
        var actions: [PunchAction] = []
        var now: UInt64 = 1_000_000_000
        let own: ICECredentials
        let peer: ICECredentials
        let cryptography: OpenSSLCryptography

        init(_ plan: PunchPlan, gate: PunchGate = PunchGate()) throws {
            own = try ICECredentials(usernameFragment: "ownfragm", password: "OwnPasswordOfThisSide123")
            peer = try ICECredentials(usernameFragment: "peerfrag", password: "PasswordOfTheOtherSide12")
            cryptography = try OpenSSLCryptography()
            let session = Puncher.Session(
                own: own,
                peer: peer,
                server: PuncherTests.server,
                ownAddress: PuncherTests.seen.address
            )
            puncher = Puncher(
                plan,
                session,
                begins: plan.begins(isOfferer: true),
                gate: gate,
                cryptography: cryptography
            )
            step { $0.start(now: $1, into: &$2) }
        }

        /// Opens what is to be opened, and gives the rest back.
        @discardableResult
        func step(_ body: (Puncher, UInt64, inout [PunchAction]) -> Void) -> [PunchAction] {
            actions = []
            body(puncher, now, &actions)
            var next = 0
            while next < actions.count {
                if case .open(let socket) = actions[next] {
                    let local = Endpoint(address: IPAddress("192.168.1.2"), port: UInt16(50_000 + socket))
                    puncher.opened(socket, at: local, now: now, into: &actions)
                }
                next += 1
            }
            return actions
        }

        func receive(_ bytes: [UInt8], on socket: Int, from source: Endpoint) -> [PunchAction] {
            step { puncher, now, actions in
                bytes.withUnsafeBytes { _ = puncher.receive($0, on: socket, from: source, now: now, into: &actions) }
            }
        }

        /// Answers all questions to the server that are among the actions.
        func answerServer(_ mapped: Endpoint) throws {
            for case .send(let socket, PuncherTests.server, let bytes, _) in actions {
                let id = try bytes.withUnsafeBytes { try MessageView($0).transactionID }
                let answer = try message(.binding, .successResponse, id) { $0.append(.xorMappedAddress, xor: mapped) }
                _ = receive(answer, on: socket, from: PuncherTests.server)
            }
        }

        /// Lets time pass from deadline to deadline.
        func run(seconds: Double) -> [PunchAction] {
            let end = now + UInt64(seconds * 1e9)
            var all: [PunchAction] = []
            while let next = puncher.nextDeadline, next <= end {
                now = max(now, next)
                all += step { $0.advance(now: $1, into: &$2) }
            }
            now = end
            return all
        }
    }

    private static func probes(_ actions: [PunchAction]) -> [(socket: Int, to: Endpoint, bytes: [UInt8])] {
        actions.compactMap { action in
            guard case .send(let socket, let endpoint, let bytes, _) = action, endpoint != server else { return nil }
            return (socket, endpoint, bytes)
        }
    }

    @Test func theAskingSideTellsWhereItIsAndTriesThePortsItIsTold() throws {
        let bench = try Bench(.ask(.counted(step: 1)))
        try bench.answerServer(Self.seen)
        guard case .tell(.ready(1, Self.seen))? = bench.actions.last else {
            Issue.record("\(bench.actions)")
            return
        }
        let sent = bench.step {
            $0.take(.opened(attempt: 1, at: Self.peer, .list([6_001, 6_002])), now: $1, into: &$2)
        }
        #expect(Self.probes(sent).map(\.to.port) == [6_001, 6_002])
        #expect(Self.probes(sent).allSatisfy { $0.to.address == Self.peer && $0.bytes.count <= PunchLimits.probeBytes })
        // An answer by the peer's password ends it, and nothing leaves any more.
        let id = try Self.probes(sent)[0].bytes.withUnsafeBytes { try MessageView($0).transactionID }
        let key = AnswerKey(.sha1, Array(bench.peer.password.utf8))
        let answer = try message(.binding, .successResponse, id, key: key) {
            $0.append(.xorMappedAddress, xor: Self.seen)
        }
        let hit = bench.receive(answer, on: 0, from: Endpoint(address: Self.peer, port: 6_002))
        guard case .hit(let found)? = hit.first else {
            Issue.record("\(hit)")
            return
        }
        #expect(found == PunchHit(socket: 0, peer: Endpoint(address: Self.peer, port: 6_002), mapped: Self.seen))
        // But for a few to the one who was heard.
        let late = Self.probes(bench.run(seconds: 20))
        #expect(late.count == PunchLimits.hitCopies && late.allSatisfy { $0.to == found.peer })
        #expect(bench.puncher.outcome == .hit)
    }

    @Test func whatThePeerHasNotSignedIsNoHit() throws {
        let bench = try Bench(.open(.counted(step: 1)))
        bench.step { $0.take(.ready(attempt: 1, at: Endpoint(address: Self.peer, port: 7_000)), now: $1, into: &$2) }
        let id = TransactionID(high: 1, low: 2)
        for password in ["GuessedByAStranger123456", bench.own.password] {
            let key = AnswerKey(.sha1, Array(password.utf8))
            let probe = try message(.binding, .request, id, key: key) {
                $0.append(.username, Array(bench.own.usernameFragment.utf8))
            }
            let actions = bench.receive(probe, on: 1, from: Endpoint(address: Self.peer, port: 7_000))
            let isHit = actions.contains { if case .hit = $0 { true } else { false } }
            #expect(isHit == (password == bench.own.password))
        }
    }

    @Test func nothingIsSentWhereNothingMayGo() throws {
        for text in ["192.168.1.1", "127.0.0.1", "10.0.0.1", "169.254.0.1", "224.0.0.1", "100.64.0.1"] {
            let asking = try Bench(.ask(.any))
            try asking.answerServer(Self.seen)
            asking.step {
                $0.take(.opened(attempt: 1, at: IPAddress(text), .range(1_024...65_535)), now: $1, into: &$2)
            }
            #expect(Self.probes(asking.run(seconds: 15)).isEmpty, "\(text)")
            let opening = try Bench(.open(.any))
            opening.step {
                $0.take(.ready(attempt: 1, at: Endpoint(address: IPAddress(text), port: 9)), now: $1, into: &$2)
            }
            #expect(Self.probes(opening.run(seconds: 15)).isEmpty, "\(text)")
            #expect(asking.puncher.counters.refused == 1 && opening.puncher.counters.refused == 1)
        }
    }

    @Test func aSecondSearchTowardAnAddressWaitsForItsTurn() throws {
        let gate = PunchGate()
        let benches = try [Bench(.open(.any), gate: gate), Bench(.open(.any), gate: gate)]
        let ready = PunchMessage.ready(attempt: 1, at: Endpoint(address: Self.peer, port: 7_000))
        for bench in benches { bench.step { $0.take(ready, now: $1, into: &$2) } }
        #expect(benches[0].puncher.outcome == nil && benches[1].puncher.outcome == .busy)
    }

    @Test func whatIsNotAnsweredIsToldAgainAndAnsweredAgainWithTheSame() throws {
        let asking = try Bench(.ask(.counted(step: 1)))
        try asking.answerServer(Self.seen)
        func told(_ actions: [PunchAction]) -> [PunchMessage] {
            actions.compactMap { if case .tell(let message) = $0 { message } else { nil } }
        }
        #expect(told(asking.run(seconds: 1.9)) == Array(repeating: .ready(attempt: 1, at: Self.seen), count: 3))
        // The ports are there: it is silent while it tries them.
        asking.step { $0.take(.opened(attempt: 1, at: Self.peer, .list([6_001])), now: $1, into: &$2) }
        #expect(told(asking.run(seconds: 0.4)).isEmpty)

        let opening = try Bench(.open(.preserved))
        let ready = PunchMessage.ready(attempt: 1, at: Endpoint(address: Self.peer, port: 7_000))
        let first = told(opening.step { $0.take(ready, now: $1, into: &$2) })
        let again = opening.step { $0.take(ready, now: $1, into: &$2) }
        #expect(first.count == 1 && told(again) == first)
        // Without another socket or packet.
        #expect(again.count == 1)
    }

    /// The one who opens sends before the other knows where to, and in the next attempt it is the other way round.
    @Test func whereNothingIsGuessedTheSidesTakeTurnsInSendingFirst() throws {
        let bench = try Bench(.fixed)
        try bench.answerServer(Self.seen)
        guard case .tell(.ready(1, Self.seen))? = bench.actions.last else {
            Issue.record("\(bench.actions)")
            return
        }
        let sent = bench.step { $0.take(.opened(attempt: 1, at: Self.peer, .list([6_001])), now: $1, into: &$2) }
        #expect(Self.probes(sent).map(\.to) == [Endpoint(address: Self.peer, port: 6_001)])
        // Nobody was heard: now the peer is to say where it is.
        let turned = bench.run(seconds: 1)
        let asks = turned.contains { if case .tell(.measure(attempt: 2)) = $0 { true } else { false } }
        #expect(asks)
        bench.step { $0.take(.ready(attempt: 2, at: Endpoint(address: Self.peer, port: 7_000)), now: $1, into: &$2) }
        try bench.answerServer(Self.seen)
        guard bench.actions.count == 2, case .send(_, let target, _, let limit) = bench.actions[0],
            case .tell(.opened(2, Self.seen.address, .list([Self.seen.port]))) = bench.actions[1]
        else {
            Issue.record("\(bench.actions)")
            return
        }
        #expect(target == Endpoint(address: Self.peer, port: 7_000) && limit == 5)
        #expect(!bench.run(seconds: 20).isEmpty && bench.puncher.outcome == .missed)
    }

    @Test func openersBeginWithASmallHopLimitAndSocketsAreClosedInTheEnd() throws {
        let bench = try Bench(.open(.any))
        let ready = PunchMessage.ready(attempt: 1, at: Endpoint(address: Self.peer, port: 7_000))
        var all = bench.step { $0.take(ready, now: $1, into: &$2) }
        all += bench.run(seconds: 20)
        var limits: [Int: [UInt8?]] = [:]
        var open: Set<Int> = []
        for action in all {
            switch action {
            case .open(let socket): open.insert(socket)
            case .close(let socket): open.remove(socket)
            case .send(let socket, _, _, let limit): limits[socket, default: []].append(limit)
            default: break
            }
        }
        #expect(limits.count == 256 && open.isEmpty && bench.puncher.outcome == .missed)
        #expect(limits.values.allSatisfy { $0.prefix(3) == [5, 7, nil] })
    }

    @Test func aPeerThatAsksForEverMoreGetsNoMore() throws {
        let bench = try Bench(.open(.counted(step: 1)))
        var opened = 0
        for number in UInt32(1)...1_000 {
            let ready = PunchMessage.ready(attempt: number, at: Endpoint(address: Self.peer, port: 7_000))
            opened += bench.step { $0.take(ready, now: $1, into: &$2) }.count {
                if case .open = $0 { true } else { false }
            }
        }
        #expect(opened <= 3 * PunchLimits.guessAttempts)
    }
}

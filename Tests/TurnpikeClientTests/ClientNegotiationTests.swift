import Lab
import STUN
import Signaling
import Testing
import Traversal

@testable import TurnpikeClient

/// How connections come about, and what may go wrong until they do.
@Suite struct ClientNegotiationTests {
    private static func homes(_ behavior: NATBehavior? = .portRestricted) -> [ClientWorld.Home] {
        [.init(name: "alice", behavior: behavior), .init(name: "bob", behavior: behavior)]
    }

    enum Blocked: String, CaseIterable, Sendable {
        case offerer, answerer, both
    }

    /// No datagram gets out of one house, or of both.
    @Test(arguments: Blocked.allCases) func withoutUDPTheyAreConnectedByTURNOverTCP(blocked: Blocked) async {
        await withWorlds(runs(1)) { seed in
            // By TCP they cannot meet either.
            var homes = Self.homes(
                .portRestricted.with { ($0.tcpMapping, $0.allocation) = (.addressDependent, .random) }
            )
            if blocked != .answerer { homes[0].firewall = .noUDP }
            if blocked != .offerer { homes[1].firewall = .noUDP }
            let world = try ClientWorld(homes, seed: seed)
            try world.start()
            #expect(try world.meet(), world.comment)
            try world.internet.run(seconds: 1)
            #expect(world.areRelayed, world.comment)
            #expect(try world.exchange(), world.comment)
            let blind = blocked == .answerer ? world.bob : world.alice
            #expect(blind.health.services.holePunching.status == .unhealthy)
            #expect(blind.health.issues.contains { $0.contains("UDP") }, "\(blind.health.issues)")
            try world.close()
        }
    }

    @Test func lossDelaysAndDoesNotPrevent() async {
        await withWorlds(runs(2)) { seed in
            let quality = LinkQuality(delayMilliseconds: 15, jitterMilliseconds: 5, lossRatio: 0.05)
            let world = try ClientWorld(Self.homes(), quality: quality, seed: seed)
            try world.start(atMostSeconds: 20)
            #expect(try world.meet(atMostSeconds: 15), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 15), world.comment)
            #expect(try world.exchange(atMostSeconds: 15), world.comment)
            try world.close()
        }
    }

    /// The signaling connection breaks at any moment of the negotiation, with what is on its way.
    @Test func aBreakOfSignalingInTheMiddleOfTheNegotiationDoesNotPrevent() async {
        await withWorlds(runs(6)) { seed in
            let world = try ClientWorld(Self.homes(), seed: seed)
            try world.start()
            let hub = world.internet.rendezvous("signaling")
            world.internet.scheduler.after(seconds: 0.012 * Double(seed % 10)) {
                hub.host.link.cut(afterSeconds: 0, forSeconds: 1)
            }
            #expect(try world.meet(atMostSeconds: 20), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 20), world.comment)
            #expect(world.alice.failures.isEmpty && world.bob.failures.isEmpty)
            try world.close()
        }
    }

    /// The server starts anew and knows nobody.
    @Test func aRestartOfTheHubInTheMiddleOfTheNegotiationDoesNotPrevent() async {
        await withWorlds(runs(4)) { seed in
            let world = try ClientWorld(Self.homes(), seed: seed)
            try world.start()
            let hub = world.internet.rendezvous("signaling")
            world.internet.scheduler.after(seconds: 0.02 * Double(seed % 6)) { hub.restart() }
            #expect(try world.meet(atMostSeconds: 20), world.comment)
            #expect(try world.internet.run(while: { !world.areDirect }, atMostSeconds: 20), world.comment)
            try world.close()
        }
    }

    @Test func whereBothCallThereIsOneConnection() async {
        await withWorlds(runs(4)) { seed in
            let world = try ClientWorld(Self.homes(), seed: seed)
            try world.start()
            var answers: [PeerSession] = []
            world.alice.connect(to: "bob") { if case .success(let session) = $0 { answers.append(session) } }
            world.internet.scheduler.after(seconds: 0.01 * Double(seed % 5)) {
                world.bob.connect(to: "alice") { if case .success(let session) = $0 { answers.append(session) } }
            }
            #expect(try world.internet.run(while: { answers.count < 2 || !world.areDirect }, atMostSeconds: 5))
            #expect(try world.exchange(), world.comment)
            try world.internet.run(seconds: 3)
            #expect(world.alice.client.sessions.count == 1 && world.bob.client.sessions.count == 1)
            #expect(world.alice.connected.count == 1 && world.bob.connected.count == 1)
            #expect(world.alice.disconnections.isEmpty && world.bob.disconnections.isEmpty)
            try world.close()
        }
    }

    @Test func severalConnectToOneAndToOneAnotherAtOnce() async {
        await withWorlds(runs(1)) { seed in
            let names = ["alice", "bob", "carol", "dave", "erin"]
            let behaviors: [NATBehavior?] = [.portRestricted, .fullCone, .symmetric, nil, .portRestricted]
            let homes = zip(names, behaviors).map { name, behavior in
                ClientWorld.Home(name: name, behavior: behavior, firewall: behavior == nil ? .open : .stateful)
            }
            // What is found by guessing ports is another test's.
            let world = try ClientWorld(homes, seed: seed) { _, configuration in
                configuration.symmetricPunching = .never
            }
            try world.start()
            var opened = 0
            for one in names {
                for other in names where one < other {
                    world[one].connect(to: other) { if case .success = $0 { opened += 1 } }
                }
            }
            #expect(try world.internet.run(while: { opened < 10 }, atMostSeconds: 10))
            try world.internet.run(seconds: 5)
            var arrived: Set<String> = []
            for name in names {
                world[name].onMessage = { session, message in
                    if message.text == session.remote.rawValue { arrived.insert("\(message.text) \(name)") }
                }
            }
            for one in names {
                for other in names where one != other { world[one].send(Message(one), to: other) }
            }
            #expect(try world.internet.run(while: { arrived.count < 20 }, atMostSeconds: 3), "\(arrived)")
            let hard: Set<Set<String>> = [["alice", "carol"], ["carol", "erin"]]
            for one in names {
                for other in names where one != other {
                    let isDirect = !hard.contains([one, other])
                    #expect(world[one].isDirect(to: other) == isDirect, "\(one) and \(other)")
                }
            }
            try world.close()
        }
    }

    // MARK: What is missing

    @Test func aWrongPasswordIsNamed() async {
        await withWorlds(0..<1) { seed in
            let world = try ClientWorld(Self.homes(), seed: seed) { name, configuration in
                guard name == "alice" else { return }
                configuration.password = "not hers"
                configuration.turnServers[0].password = "not hers"
            }
            world.bob.start()
            var isStarted = false
            world.alice.client.start { isStarted = true }
            #expect(try world.internet.run(while: { !isStarted }, atMostSeconds: 8))
            let health = world.alice.health
            #expect(!health.healthy)
            #expect(health.services.signaling.status == .unhealthy && health.services.relay.status == .unhealthy)
            #expect(health.services.holePunching.status == .healthy)
            #expect(health.issues.count { $0.contains("password") } >= 2, "\(health.issues)")
            var failure: ConnectionFailure?
            world.alice.connect(to: "bob") { if case .failure(let found) = $0 { failure = found } }
            #expect(try world.internet.run(while: { failure == nil }, atMostSeconds: 31))
            #expect(failure?.error.contains("password") == true, "\(failure?.error ?? "")")
            try world.close()
        }
    }

    @Test func withoutSignalingTheRestIsThere() async {
        await withWorlds(0..<1) { seed in
            let world = try ClientWorld(Self.homes(), seed: seed)
            world.internet.rendezvous("signaling").host.link.cut()
            var isStarted = false
            world.alice.client.start { isStarted = true }
            #expect(try world.internet.run(while: { !isStarted }, atMostSeconds: 9))
            try world.internet.run(seconds: 10)
            var health = world.alice.health
            #expect(health.services.signaling.status == .unhealthy, "\(health)")
            #expect(health.services.relay.status == .healthy && health.services.holePunching.status == .healthy)
            #expect(health.issues.contains { $0.contains("signaling.lab") }, "\(health.issues)")
            // What has never worked is not waited for.
            var refusal: SignalingError?
            world.alice.client.register(world.alice.id, metadata: .emptyObject) { result in
                if case .failure(let error) = result { refusal = error }
            }
            #expect(refusal?.description.contains("signaling.lab") == true)
            // It comes, and all is well without anybody doing anything.
            world.internet.rendezvous("signaling").host.link.restore()
            #expect(
                try world.internet.run(
                    while: { world.alice.health.services.signaling.status != .healthy },
                    atMostSeconds: 70
                )
            )
            world.bob.start()
            world.alice.client.register(world.alice.id, metadata: .emptyObject) { _ in }
            #expect(
                try world.internet.run(
                    while: { !world.alice.isRegistered || !world.bob.isRegistered },
                    atMostSeconds: 70
                )
            )
            health = world.alice.health
            #expect(health.healthy && health.issues.isEmpty, "\(health.issues)")
            #expect(try world.meet(), world.comment)
            try world.close()
        }
    }

    @Test func withoutARelayTheDirectPathIsThere() async {
        await withWorlds(0..<1) { seed in
            let world = try ClientWorld(Self.homes(), seed: seed) { _, configuration in
                configuration.turnServers[0].url = "turn:nowhere.lab:3478"
                configuration.stunServers = ["stun:turn.lab:3478"]
            }
            try world.start()
            let health = world.alice.health
            #expect(health.healthy && health.services.relay.status == .unhealthy)
            #expect(health.issues.contains { $0.contains("nowhere.lab") }, "\(health.issues)")
            #expect(try world.meet(), world.comment)
            #expect(world.areDirect, world.comment)
            #expect(try world.exchange(), world.comment)
            try world.close()
        }
    }

    @Test func whereNothingLeadsToThePeerTheFailureTellsOfEachPair() async {
        await withWorlds(0..<1) { seed in
            let world = try ClientWorld(Self.homes(.symmetric), seed: seed) { _, configuration in
                configuration.turnServers = []
                configuration.stunServers = ["stun:turn.lab:3478"]
            }
            try world.start()
            var failure: ConnectionFailure?
            world.alice.connect(to: "bob") { if case .failure(let found) = $0 { failure = found } }
            #expect(try world.internet.run(while: { failure == nil }, atMostSeconds: 31))
            #expect(failure?.reason == .noPath, "\(failure?.error ?? "")")
            #expect(failure?.report.pairs.count ?? 0 >= 2)
            #expect(failure?.report.pairs.allSatisfy { !$0.outcome.isEmpty } == true)
            try world.internet.run(seconds: 2)
            #expect(world.alice.client.sessions.isEmpty)
            try world.close()
        }
    }

    @Test func aPeerThatIsNotThereIsSaidToBeMissingAtOnce() async {
        await withWorlds(0..<1) { seed in
            let world = try ClientWorld(Self.homes(), seed: seed)
            try world.start()
            var failure: ConnectionFailure?
            world.alice.connect(to: "nobody") { if case .failure(let found) = $0 { failure = found } }
            #expect(try world.internet.run(while: { failure == nil }, atMostSeconds: 1))
            #expect(failure?.reason == .peerNotFound, "\(failure?.error ?? "")")
            try world.close()
        }
    }
}

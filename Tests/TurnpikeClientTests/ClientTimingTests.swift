import Lab
import STUN
import Signaling
import Testing
import Traversal

@testable import TurnpikeClient

/// How soon an application has its first byte, in virtual time and in round trips from peer to relay to peer and back.
///
/// What is counted: from the call of `connect` until the first message of the caller's is in the hands of the program
/// at the other end, and until the first of the other end's is in the caller's. Offer and answer take one round trip,
/// and bring the handshakes so far that the caller's message follows at once; the other end's begins when that comes.
@Suite struct ClientTimingTests {
    /// A pair of port-restricted homes.
    private struct Run {
        let world: ClientWorld
        let roundTripSeconds: Double

        init(_ seed: UInt64, lossRatio: Double = 0) throws {
            var dice = Dice(seed: seed, for: "quality")
            let delay = 5 + 35 * dice.unit()
            let quality = LinkQuality(delayMilliseconds: delay, lossRatio: lossRatio)
            world = try ClientWorld(
                [
                    .init(name: "alice", behavior: .portRestricted), .init(name: "bob", behavior: .portRestricted),
                ],
                quality: quality,
                seed: seed
            )
            // Half a millisecond in the house, the home's link, the server's; there and back, twice.
            roundTripSeconds = 4 * (0.5 + 2 * delay) / 1_000
        }

        /// Seconds from the call.
        struct Times {
            /// The caller knows a path.
            var path: Double?
            /// The first message of each end's, at the other.
            var atCallee: Double?
            var atCaller: Double?
        }

        func firstBytes() throws -> Times {
            let began = world.internet.seconds
            var times = Times()
            world.bob.onMessage = { [world] _, _ in
                times.atCallee = times.atCallee ?? world.internet.seconds - began
            }
            world.alice.onMessage = { [world] _, _ in
                times.atCaller = times.atCaller ?? world.internet.seconds - began
            }
            world.bob.onConnected = { [world] _ in world.bob.send(Message("welcome"), to: "alice") }
            world.alice.connect(to: "bob") { [world] result in
                if case .success = result { world.alice.send(Message("first"), to: "bob") }
            }
            try world.internet.run(
                while: {
                    if times.path == nil, world.alice.path(to: "bob") != nil {
                        times.path = world.internet.seconds - began
                    }
                    return times.atCallee == nil || times.atCaller == nil || times.path == nil
                },
                atMostSeconds: 10
            )
            return times
        }
    }

    @Test func overAWarmRelayTheFirstMessagesAreThereInTwoRoundTripsAnd50Milliseconds() async {
        let (paths, atCallee, atCaller) = (Figures(), Figures(), Figures())
        await withWorlds(runs(3)) { seed in
            let run = try Run(seed)
            try run.world.start()
            let times = try run.firstBytes()
            for (time, figures) in [
                (times.path, paths), (times.atCallee, atCallee), (times.atCaller, atCaller),
            ] {
                let time = try #require(time, run.world.comment)
                #expect(time <= 2 * run.roundTripSeconds + 0.050)
                figures.add(time / run.roundTripSeconds)
            }
            try run.world.close()
        }
        print("warm: \(paths.text("path, round trips"))")
        print("warm: \(atCallee.text("the caller's first message, round trips"))")
        print("warm: \(atCaller.text("the other's first message, round trips"))")
    }

    @Test func fromAColdStartTheFirstMessagesAreThereInSixRoundTripsAnd300Milliseconds() async {
        let (atCallee, atCaller) = (Figures(), Figures())
        await withWorlds(runs(3)) { seed in
            let run = try Run(seed)
            run.world.bob.start()
            try run.world.internet.run(seconds: 5)
            run.world.alice.client.start {}
            let times = try run.firstBytes()
            for (time, figures) in [(times.atCallee, atCallee), (times.atCaller, atCaller)] {
                let time = try #require(time, run.world.comment)
                #expect(time <= 6 * run.roundTripSeconds + 0.300)
                figures.add(time / run.roundTripSeconds)
            }
            try run.world.close()
        }
        print("cold: \(atCallee.text("the caller's first message, round trips"))")
        print("cold: \(atCaller.text("the other's first message, round trips"))")
    }

    /// The handshake's signals are lost: its records come by the path.
    @Test func withoutSignalsBehindTheAnswerTheConnectionStandsAsSoonAsThePath() async {
        await withWorlds(runs(3)) { seed in
            let run = try Run(seed)
            let world = run.world
            try world.start()
            var isOpen = false
            world.alice.connect(to: "bob") { _ in isOpen = true }
            try world.internet.run(
                while: {
                    world.alice.session(with: "bob")?.signalUsers = [:]
                    world.bob.session(with: "alice")?.signalUsers = [:]
                    return !isOpen || !world.areOpen
                },
                atMostSeconds: 5
            )
            #expect(world.areOpen, world.comment)
            #expect(try world.exchange(), world.comment)
            try world.close()
        }
    }

    /// Two connections between the same two programs share both relays and their addresses.
    @Test func twoHandshakesAtATimeOverOnePairOfRelaysBothTakeTwoRoundTrips() async {
        await withWorlds(runs(3)) { seed in
            let run = try Run(seed)
            let world = run.world
            try world.start()
            var isRegistered = false
            world.alice.client.register("alice/second", metadata: .emptyObject) { _ in isRegistered = true }
            try world.internet.run(while: { !isRegistered }, atMostSeconds: 5)
            let began = world.internet.seconds
            var arrived: [String: Double] = [:]
            world.bob.onMessage = { _, message in arrived[message.text] = world.internet.seconds - began }
            for (number, name) in ["alice", "alice/second"].enumerated() {
                let waiter = PeerSession.Waiter(
                    number: UInt64(1_000 + number),
                    require: .any,
                    deadline: .max
                ) { result in
                    guard case .success(let session) = result else { return }
                    session.send(Message(name), on: SessionChannels.own) { _ in }
                }
                world.alice.client.connect(from: PeerID(name), to: "bob", waiter)
            }
            try world.internet.run(while: { arrived.count < 2 }, atMostSeconds: 5)
            #expect(Set(arrived.keys) == ["alice", "alice/second"], world.comment)
            // The second one's checks of the path wait for their turn behind the first one's.
            #expect(arrived.values.allSatisfy { $0 <= 2 * run.roundTripSeconds + 0.050 }, "\(arrived)")
            try world.close()
        }
    }

    @Test func fromTheRelayToTheDirectPathItTakesTwoRoundTripsAnd150Milliseconds() async {
        let excess = Figures()
        await withWorlds(runs(3)) { seed in
            let run = try Run(seed)
            try run.world.start()
            run.world.alice.connect(to: "bob")
            try run.world.internet.run(
                while: { run.world.alice.path(to: "bob") == nil || run.world.bob.path(to: "alice") == nil },
                atMostSeconds: 5
            )
            let began = run.world.internet.seconds
            let isDirect = {
                run.world.alice.isDirect(to: "bob") && run.world.bob.isDirect(to: "alice")
            }
            #expect(try run.world.internet.run(while: { !isDirect() }, atMostSeconds: 5))
            excess.add((run.world.internet.seconds - began - 2 * run.roundTripSeconds) * 1_000)
            try run.world.close()
        }
        #expect(excess.quantile(0.5) <= 150)
        print(excess.text("relay to direct, ms after two round trips"))
    }
}

/// Measurements of the runs of a test.
// Unchecked: `withWorlds` runs one body after the other.
final class Figures: @unchecked Sendable {
    private var values: [Double] = []

    func add(_ value: Double) { values.append(value) }

    var mean: Double { values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count) }

    /// - Parameter ratio: 0.5 is the median, 1 the largest.
    func quantile(_ ratio: Double) -> Double {
        let sorted = values.sorted()
        guard !sorted.isEmpty else { return .infinity }
        return sorted[min(sorted.count - 1, Int((Double(sorted.count) * ratio).rounded(.down)))]
    }

    func text(_ what: String) -> String {
        let figures = [0.5, 0.99, 1].map { String((quantile($0) * 100).rounded() / 100) }
        return "\(what): median \(figures[0]), 99 % \(figures[1]), most \(figures[2]) of \(values.count)"
    }
}

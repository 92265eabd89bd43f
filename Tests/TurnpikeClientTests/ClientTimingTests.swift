import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// How soon an application has its first byte, in virtual time and in round trips from peer to relay to peer and back.
///
/// What is counted: from the call of `connect` until the first message of the caller's is in the hands of the program
/// at the other end. Of the round trips ICE takes one and a half (offer, answer, check), DTLS 1.2 two, SCTP two more,
/// and the message one half.
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

        /// - Returns: in seconds from this call.
        func firstByte() throws -> (path: Double, message: Double) {
            let began = world.internet.seconds
            var (path, arrival): (Double?, Double?)
            world.bob.onMessage = { [world] _, _ in arrival = arrival ?? world.internet.seconds }
            world.alice.connect(to: "bob") { [world] result in
                if case .success = result { world.alice.send(Message("first"), to: "bob") }
            }
            try world.internet.run(
                while: {
                    if path == nil, world.alice.path(to: "bob") != nil { path = world.internet.seconds }
                    return arrival == nil
                },
                atMostSeconds: 10
            )
            return (try #require(path) - began, try #require(arrival, world.comment) - began)
        }
    }

    @Test func overAWarmRelayThePathTakesTwoRoundTripsAndTheFirstMessageTwoMore() async {
        let (paths, messages) = (Figures(), Figures())
        await withWorlds(runs(3)) { seed in
            let run = try Run(seed)
            try run.world.start()
            let (path, message) = try run.firstByte()
            #expect(path <= 2 * run.roundTripSeconds + 0.050)
            #expect(message <= 4 * run.roundTripSeconds + 0.100)
            paths.add(path / run.roundTripSeconds)
            messages.add(message / run.roundTripSeconds)
            try run.world.close()
        }
        print("warm: \(paths.text("path, round trips")); \(messages.text("first message, round trips"))")
    }

    @Test func fromAColdStartTheFirstMessageIsThereInSixRoundTripsAnd300Milliseconds() async {
        let (paths, messages) = (Figures(), Figures())
        await withWorlds(runs(3)) { seed in
            let run = try Run(seed)
            run.world.bob.start()
            try run.world.internet.run(seconds: 5)
            run.world.alice.client.start {}
            let (path, message) = try run.firstByte()
            #expect(message <= 6 * run.roundTripSeconds + 0.300)
            paths.add(path / run.roundTripSeconds)
            messages.add(message / run.roundTripSeconds)
            try run.world.close()
        }
        print("cold: \(paths.text("path, round trips")); \(messages.text("first message, round trips"))")
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

import TestSupport
import Testing

@testable import Traversal

/// The search alone, with a path that is a number.
@Suite struct PathMTUSearchTests {
    /// A search and what it meets: probes up to a length are answered after a round trip.
    private struct Path {
        var search: PathMTUSearch
        var now: UInt64 = 1_000 * seconds
        var longest: Int
        var roundTrip = 40 * milliseconds
        var lossPercent = 0
        /// Whether short packets arrive.
        var isAlive = true
        var probes: [(at: UInt64, bytes: Int)] = []
        private var random: SeededGenerator
        private var answers: [(at: UInt64, bytes: Int)] = []

        init(_ longest: Int, isIPv4: Bool = true, seed: UInt64 = 1) {
            search = PathMTUSearch(isIPv4: isIPv4)
            self.longest = longest
            random = SeededGenerator(seed: seed)
        }

        /// - Parameter sending: data as long as may be, every 10 ms, that the peer answers by a short packet.
        mutating func run(for time: UInt64, sending: Bool = true) {
            let end = now + time
            while now < end {
                if sending { _ = search.noteSent(search.datagramBytes, now: now) }
                if sending, isAlive { search.noteHeard(now: now) }
                let due = answers.filter { $0.at <= now }
                answers.removeAll { $0.at <= now }
                for answer in due { search.noteAnswer(answer.bytes, now: now) }
                while let bytes = search.nextProbe(now: now, roundTrip: roundTrip) {
                    probes.append((now, bytes))
                    if isAlive, bytes <= longest, Int.random(in: 0..<100, using: &random) >= lossPercent {
                        answers.append((now + roundTrip, bytes))
                    }
                }
                now += 10 * milliseconds
            }
        }
    }

    @Test func itEndsAtTheLongestThatArrives() {
        for isIPv4 in [true, false] {
            for link in [1_175, 1_280, 1_399, 1_400, 1_451, 1_491, 1_500, 9_000] {
                let headers = isIPv4 ? 28 : 48
                var path = Path(link - headers, isIPv4: isIPv4)
                path.run(for: 5 * seconds)
                let known = [1_280, 1_400, 1_420, 1_452, 1_492, 1_500].last { $0 <= link }
                #expect(path.search.datagramBytes == known.map { $0 - headers } ?? 1_147, "\(link)")
            }
        }
    }

    @Test func sizesAreTriedInOneRoundTripEach() {
        var path = Path(1_472)
        path.run(for: 6 * 50 * milliseconds)
        #expect(path.search.datagramBytes == 1_472)
        #expect(path.probes.map(\.bytes) == [1_252, 1_372, 1_392, 1_424, 1_464, 1_472])
    }

    @Test func threeLossesEndItAndTenMinutesLaterItGoesOn() {
        var path = Path(1_400)
        path.run(for: 10 * seconds)
        let failed = path.probes.filter { $0.bytes == 1_424 }
        #expect(failed.count == 3)
        // RFC 8899 section 5.1.1.
        #expect(zip(failed, failed.dropFirst()).allSatisfy { $1.at - $0.at >= seconds })
        path.longest = 1_472
        path.run(for: 590 * seconds)
        #expect(path.search.datagramBytes == 1_392)
        path.run(for: 20 * seconds)
        #expect(path.search.datagramBytes == 1_472)
    }

    @Test func aPathWithoutDataIsAskedNothing() {
        var path = Path(1_472)
        path.run(for: 1_000 * seconds, sending: false)
        _ = path.search.noteSent(200, now: path.now)
        path.run(for: 1_000 * seconds, sending: false)
        #expect(path.probes.isEmpty && path.search.deadline == nil)
    }

    @Test func oneLostProbeOfAFewEndsNothing() {
        for seed in 1...50 as ClosedRange<UInt64> {
            var path = Path(1_472, seed: seed)
            path.lossPercent = 5
            path.run(for: 60 * seconds)
            #expect(path.search.datagramBytes == 1_472, "seed \(seed)")
        }
    }

    @Test func whatNoLongerArrivesIsNoticedWithinTwoSeconds() {
        var path = Path(1_472)
        path.run(for: 10 * seconds)
        path.longest = 1_272
        path.run(for: 1_900 * milliseconds)
        // At the bottom, and up again as far as it goes.
        #expect(path.search.datagramBytes == 1_252)
        path.run(for: 100 * seconds)
        #expect(path.search.datagramBytes == 1_252)
    }

    @Test func silenceAsksAtOnce() {
        var path = Path(1_472)
        path.run(for: 3 * seconds)
        path.longest = 100
        let before = path.probes.count
        path.search.noteSilence(now: path.now)
        path.search.noteHeard(now: path.now)
        path.run(for: 700 * milliseconds)
        #expect(path.search.datagramBytes == 1_147)
        #expect(path.probes[before...].prefix(3).allSatisfy { $0.bytes == 1_472 })
    }

    /// A path that carries nothing at all says nothing of its size.
    @Test func anOutageChangesNothing() {
        var path = Path(1_472)
        path.run(for: 3 * seconds)
        path.isAlive = false
        path.run(for: 8 * seconds)
        #expect(path.search.datagramBytes == 1_472)
        path.isAlive = true
        path.run(for: 2 * seconds)
        #expect(path.search.datagramBytes == 1_472)
    }

    @Test func aRefusalEndsItForGood() {
        var path = Path(1_472)
        path.run(for: 3 * seconds)
        path.search.noteRefusal()
        let before = path.probes.count
        path.run(for: 2_000 * seconds)
        #expect(path.search.datagramBytes == 1_147 && path.probes.count == before)
    }

    /// Whatever comes in whatever order, the size is one of those there are, and there is always an end.
    @Test func anyOrderOfEventsLeavesASize() {
        var random = SeededGenerator(for: "path MTU")
        for _ in 0..<fuzzRounds(300) {
            var search = PathMTUSearch(isIPv4: Bool.random(using: &random))
            var now = UInt64.random(in: 0...10, using: &random)
            for _ in 0..<100 {
                switch Int.random(in: 0..<8, using: &random) {
                case 0: _ = search.noteSent(.random(in: 0...70_000, using: &random), now: now)
                case 1: search.noteHeard(now: now)
                case 2: search.noteSilence(now: now)
                case 3:
                    let sizes = [1_147, 1_252, 1_472, search.datagramBytes]
                    search.noteAnswer(sizes.randomElement(using: &random) ?? 0, now: now)
                case 4 where Int.random(in: 0..<20, using: &random) == 0: search.noteRefusal()
                case 5: now = now &+ UInt64.random(in: 0...2_000_000_000, using: &random)
                default: now = max(now, search.deadline ?? now)
                }
                var turns = 0
                while search.nextProbe(now: now, roundTrip: .random(in: 0...20 * seconds, using: &random)) != nil {
                    turns += 1
                }
                #expect(turns <= 4)
                #expect(1_147...1_472 ~= search.datagramBytes)
            }
        }
    }
}

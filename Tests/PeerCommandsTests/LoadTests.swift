import PeerCommands
import Testing

@Suite struct LatencyHistogramTests {
    @Test func percentilesAreRightToThreePerCent() throws {
        var histogram = LatencyHistogram()
        for time in 1...100_000 as ClosedRange<UInt64> { histogram.record(nanoseconds: time) }
        for percent in [1, 10, 50, 90, 99, 99.9] {
            let found = Double(try #require(histogram.percentile(percent)))
            #expect(abs(found / (percent * 1_000) - 1) < 0.032, "\(percent): \(found)")
        }
        #expect(histogram.percentile(100) == 100_000 && histogram.shortestNanoseconds == 1)
    }

    @Test func oneTimeIsItsOwnPercentile() {
        var histogram = LatencyHistogram()
        #expect(histogram.percentile(50) == nil)
        histogram.record(nanoseconds: 1_234_567)
        for percent in [-1, 0, 50, 100, 200] as [Double] { #expect(histogram.percentile(percent) == 1_234_567) }
    }

    @Test(arguments: [0, 31, 32, 63, 64, .max] as [UInt64])
    func noTimeIsTooShortOrTooLong(_ time: UInt64) {
        var histogram = LatencyHistogram()
        histogram.record(nanoseconds: time)
        #expect(histogram.percentile(50) == time)
    }
}

@Suite struct LoadPacketTests {
    @Test func aPacketIsReadAsItWasWritten() {
        let packet = LoadPacket(run: 0xDEAD_BEEF, step: 7, number: .max - 1, sentAt: 1 << 60)
        var bytes = [UInt8](repeating: 0xAA, count: 32)
        bytes.withUnsafeMutableBytes { packet.write(to: $0) }
        #expect(bytes.withUnsafeBytes { LoadPacket($0) } == packet)
        #expect(bytes.suffix(8) == Array(repeating: 0xAA, count: 8)[...])
        #expect(bytes.prefix(23).withUnsafeBytes { LoadPacket($0) } == nil)
    }

    @Test func arrivalsAreToldApart() {
        var window = ArrivalWindow()
        let arrivals = [0, 1, 3, 2, 2, 3, 200, 199, 136, 4, .max].map { window.take($0) }
        #expect(
            arrivals == [
                .first, .first, .first, .reordered, .duplicate, .duplicate, .first, .reordered, .reordered, .reordered,
                .duplicate,
            ]
        )
        #expect(window.take(199) == .duplicate && window.take(137) == .reordered)
    }
}

@Suite struct PacerTests {
    @Test func aRateIsHeldHoweverTheClockIsLookedAt() {
        var pacer = Pacer(packetsPerSecond: 333, startedAt: 1_000, mostAtOnce: 1_000)
        var sent: UInt64 = 0
        for step in 0...1_000 as ClosedRange<UInt64> { sent += pacer.take(now: 1_000 + step * 3_000_000) }
        #expect(sent == 999 && pacer.due == 999 && pacer.skipped == 0)
    }

    @Test func whatWasMissedIsNotMadeUpForByABurst() {
        var pacer = Pacer(packetsPerSecond: 1_000, startedAt: 0, mostAtOnce: 20)
        #expect(pacer.take(now: 500_000_000) == 20)
        #expect(pacer.due == 500 && pacer.skipped == 480)
        #expect(pacer.take(now: 500_500_000) == 0)
    }

    @Test func timeThatStandsStillSendsNothing() {
        var pacer = Pacer(packetsPerSecond: .infinity, startedAt: 10, mostAtOnce: 5)
        #expect(pacer.take(now: 5) == 0 && pacer.take(now: 10) == 0)
        #expect(pacer.take(now: 11) == 5)
    }
}

@Suite struct RateSearchTests {
    /// Runs a search against a server that can do so much.
    private func search(capacity: Double, from start: Double = 1_000) -> (best: Double?, steps: Int) {
        var search = RateSearch(startingAt: start)
        var steps = 0
        while !search.isOver, steps < 200 {
            search.record(passed: search.rate <= capacity)
            steps += 1
        }
        return (search.best, steps)
    }

    @Test(arguments: [12, 999, 1_000, 1_001, 54_321, 1_000_000])
    func theCapacityIsFoundToATwentieth(_ capacity: Double) throws {
        let (best, steps) = search(capacity: capacity)
        let found = try #require(best)
        #expect(found <= capacity && found > capacity / 1.051, "\(found)")
        #expect(steps < 40)
    }

    @Test func aServerThatCarriesNothingEndsTheSearch() {
        let (best, steps) = search(capacity: 0)
        #expect(best == nil && steps < 20)
    }

    @Test func aServerWithoutALimitEndsTheSearchToo() {
        #expect(search(capacity: .infinity).best == 10_000_000)
    }

    @Test func oneFailureIsForgiven() {
        var search = RateSearch(startingAt: 1_000)
        search.record(passed: false)
        #expect(search.rate == 1_000 && !search.isOver)
        search.record(passed: true)
        #expect(search.best == 1_000 && search.rate == 2_000)
    }
}

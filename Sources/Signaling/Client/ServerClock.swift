/// The server's clock, as it was found by asking: the answer of the shortest round trip tells it best, and it is at
/// most half of that away.
package struct ServerClock: Sendable, Hashable {
    private struct Sample: Hashable {
        /// The server's milliseconds since the epoch, less the monotonic time in milliseconds.
        var offsetMilliseconds: Double
        var roundTripNanoseconds: UInt64
    }

    /// The newest samples; clocks drift, so old ones go.
    private var samples: [Sample] = []
    /// From the `welcome`, of which the round trip is not known: the account store stood between.
    private var rough: Sample?

    private var best: Sample? { samples.min { $0.roundTripNanoseconds < $1.roundTripNanoseconds } ?? rough }

    package init() {}

    /// Whether there are as many samples as are worth a wait.
    var isSettled: Bool { samples.count >= SignalingClientLimits.clockSamples }

    /// How far the estimate may be off; nil where nothing is known.
    package var uncertaintyMilliseconds: Double? { best.map { Double($0.roundTripNanoseconds) / 2e6 + 1 } }

    /// What the server's clock shows at a monotonic time, in milliseconds since the epoch; nil where it is not known.
    package func milliseconds(atNanoseconds time: UInt64) -> Double? {
        best.map { Double(time) / 1e6 + $0.offsetMilliseconds }
    }

    /// The monotonic time at which the server's clock shows this; nil where it is not known, the past where it is past.
    package func nanoseconds(atMilliseconds milliseconds: Double) -> UInt64? {
        guard let best else { return nil }
        let time = (milliseconds - best.offsetMilliseconds) * 1e6
        return time < 0 ? 0 : UInt64(exactly: time.rounded()) ?? .max
    }

    /// The server said `serverMilliseconds` in answer to a question.
    mutating func note(serverMilliseconds: Double, askedAt: UInt64, now: UInt64) {
        let roundTrip = now >= askedAt ? now &- askedAt : 0
        samples.append(Self.sample(serverMilliseconds, roundTrip, now))
        if samples.count > SignalingClientLimits.clockSamples { samples.removeFirst() }
    }

    mutating func noteWelcome(serverMilliseconds: Double, askedAt: UInt64, now: UInt64) {
        // Another server may stand behind the same name.
        samples = []
        rough = Self.sample(serverMilliseconds, now >= askedAt ? now &- askedAt : 0, now)
    }

    /// What the answer to an upgrade says, before anything better is known. Its fraction of a second is cut off, which
    /// is as good as a round trip of a second.
    mutating func noteUpgrade(serverSeconds: Int64, now: UInt64) {
        if best == nil { rough = Self.sample(Double(serverSeconds) * 1_000, 1_000_000_000, now) }
    }

    private static func sample(_ milliseconds: Double, _ roundTrip: UInt64, _ now: UInt64) -> Sample {
        let middle = (Double(now) - Double(roundTrip) / 2) / 1e6
        // The server cuts its milliseconds off.
        return Sample(offsetMilliseconds: milliseconds + 0.5 - middle, roundTripNanoseconds: roundTrip)
    }
}

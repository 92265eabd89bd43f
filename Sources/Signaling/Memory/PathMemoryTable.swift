/// What has led to a path between two networks, by pair of networks, as peers report it: a small score for each method.
/// Only who shares one of the two networks can make it worse.
///
/// A pair is remembered for a week after it was last of use, and the one that was longest of no use makes room.
struct PathMemoryTable {
    private final class Record: Alarmed {
        let pair: NetworkPair
        var scores = InlineArray<7, Int8>(repeating: 0)
        var milliseconds = InlineArray<7, UInt32>(repeating: 0)
        /// One bit for each method that was reported.
        var reported: UInt8 = 0

        init(_ pair: NetworkPair) { self.pair = pair }
    }

    private var records: [NetworkPair: Record] = [:]
    /// By when they are forgotten, and so also by when they were of use last.
    private var alarms = AlarmQueue()

    var count: Int { records.count }

    /// When the next one is forgotten, in monotonic nanoseconds.
    var earliest: UInt64? { alarms.earliest }

    /// Two clients of these networks have found each other: what they report is taken from here on.
    mutating func meet(_ pair: NetworkPair, now: HubTime) {
        if let record = records[pair] { return touch(record, now) }
        if records.count >= SignalingLimits.networkPairsRemembered, let oldest = alarms.popDue(.max) as? Record {
            records.removeValue(forKey: oldest.pair)
        }
        let record = Record(pair)
        records[pair] = record
        touch(record, now)
    }

    /// - Returns: whether the pair has met.
    mutating func note(
        _ pair: NetworkPair,
        _ method: PathMethod,
        worked: Bool,
        milliseconds: UInt64,
        now: HubTime
    ) -> Bool {
        guard let record = records[pair] else { return false }
        let index = method.index
        let change = worked ? SignalingLimits.pathScoreGain : SignalingLimits.pathScoreLoss
        let range = SignalingLimits.pathScoreRange
        record.scores[index] = Int8(
            clamping: min(max(Int(record.scores[index]) + change, range.lowerBound), range.upperBound)
        )
        record.reported |= 1 << UInt8(truncatingIfNeeded: index)
        if worked {
            let time = UInt32(clamping: min(milliseconds, SignalingLimits.pathMillisecondsMax))
            let before = record.milliseconds[index]
            // The last times count more than those of long ago.
            record.milliseconds[index] = before == 0 ? time : (before &* 3 &+ time) / 4
        }
        touch(record, now)
        return true
    }

    /// What is known, best first.
    func advice(_ pair: NetworkPair) -> [PathAdvice] {
        guard let record = records[pair] else { return [] }
        return PathMethod.allCases
            .filter { record.reported & 1 << UInt8(truncatingIfNeeded: $0.index) != 0 }
            .map {
                PathAdvice(
                    method: $0,
                    score: Int(record.scores[$0.index]),
                    milliseconds: Int(record.milliseconds[$0.index])
                )
            }
            .sorted { $0.score > $1.score }
    }

    /// Forgets what was of no use for a week.
    mutating func expire(_ now: HubTime) {
        while let record = alarms.popDue(now.monotonicNanoseconds) as? Record {
            records.removeValue(forKey: record.pair)
        }
    }

    private mutating func touch(_ record: Record, _ now: HubTime) {
        alarms.set(record, at: now.after(seconds: SignalingLimits.pathMemorySeconds))
    }
}

/// What becomes of the packets that go one way over a link: of those of the lab, and of real ones.
package struct LinkModel {
    package enum Fate {
        /// When it comes out at the other end, and when its copy does.
        case arrives(UInt64, copy: UInt64?)
        case dropped(Drop)
    }

    private var dice: Dice
    private var isBad = false
    private var freeAt: UInt64 = 0
    private var lastArrival: UInt64 = 0

    package init(dice: Dice) { self.dice = dice }

    /// The same packets at the same times have the same fates with the same dice.
    /// - Parameter now: nanoseconds; never less than at the call before.
    package mutating func send(byteCount: Int, _ quality: LinkQuality, now: UInt64) -> Fate {
        if let bursts = quality.bursts {
            isBad = dice.chance(isBad ? 1 - bursts.endRatio : bursts.beginRatio)
            if isBad, dice.chance(bursts.lossRatio) { return .dropped(.burst) }
        }
        if dice.chance(quality.lossRatio) { return .dropped(.loss) }
        guard let departure = departure(of: byteCount, quality, now) else { return .dropped(.queueFull) }
        let arrival = arrival(departure, quality)
        let isDuplicated = dice.chance(quality.duplicateRatio)
        return .arrives(arrival, copy: isDuplicated ? self.arrival(departure, quality) : nil)
    }

    /// When its last bit is on the link; nil where the queue has no room.
    private mutating func departure(of byteCount: Int, _ quality: LinkQuality, _ now: UInt64) -> UInt64? {
        guard let rate = quality.bitsPerSecond else { return now }
        let waiting = Double(max(freeAt, now) - now) / 1e9 * rate / 8
        guard waiting + Double(byteCount) <= Double(max(quality.queueBytes, quality.mtuBytes)) else { return nil }
        freeAt = max(freeAt, now) + nanoseconds(Double(byteCount * 8) / rate)
        return freeAt
    }

    private mutating func arrival(_ departure: UInt64, _ quality: LinkQuality) -> UInt64 {
        let jitter = quality.jitterMilliseconds > 0 ? dice.unit() * quality.jitterMilliseconds : 0
        let arrival = departure + nanoseconds((quality.delayMilliseconds + jitter) / 1_000)
        if dice.chance(quality.reorderRatio) {
            return arrival + nanoseconds(dice.unit() * quality.reorderMilliseconds / 1_000)
        }
        lastArrival = max(arrival, lastArrival)
        return lastArrival
    }
}

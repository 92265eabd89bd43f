import STUN

/// Which ports are tried, in which order.
struct PortGuesses {
    private var ports: [UInt16]
    private var next = 0
    private var random: UInt64
    /// So far the order is drawn; what lies behind `likely` comes after it.
    private let likely: Int
    private(set) var passes = 0
    private let isShuffled: Bool

    /// A handful, in the order given.
    init(_ list: [UInt16]) {
        ports = Array(list.prefix(PunchLimits.guesses))
        (likely, random, isShuffled) = (ports.count, 0, false)
    }

    /// Each port of the range once, in no order that anybody knows, and after them the same of what lies beside it.
    init(_ range: ClosedRange<UInt16>, margin: Int, seed: UInt64) {
        let all = Int(PunchLimits.anyPort.lowerBound)...Int(PunchLimits.anyPort.upperBound)
        let (low, high) = (Int(range.lowerBound), Int(range.upperBound))
        let below = Array(max(all.lowerBound, low - margin)..<max(low, all.lowerBound))
        let above =
            high < all.upperBound ? Array((high + 1)...min(all.upperBound, high + margin)).filter(all.contains) : []
        let inside = range.filter { all.contains(Int($0)) }
        ports = inside + (margin > 0 ? (below + above).compactMap { UInt16(exactly: $0) } : [])
        (likely, random, isShuffled) = (inside.count, seed | 1, true)
    }

    var isAtEnd: Bool { next >= ports.count }

    mutating func begin() {
        next = 0
        passes += 1
    }

    /// - Returns: nil at the end of a pass.
    mutating func take() -> UInt16? {
        guard next < ports.count else { return nil }
        if isShuffled {
            let end = next < likely ? likely : ports.count
            ports.swapAt(next, next + below(end - next))
        }
        defer { next += 1 }
        return ports[next]
    }

    /// xorshift64*: an even spread is all that is wanted, the seed is nobody's to guess.
    private mutating func below(_ count: Int) -> Int {
        random ^= random >> 12
        random ^= random << 25
        random ^= random >> 27
        return Int((random &* 0x2545_F491_4F6C_DD1D) >> 33) % max(1, count)
    }

    /// The ports that a NAT which counts may have given between two that a server has seen, the likeliest first.
    /// - Parameters:
    ///   - before: what was seen of a socket that sent before; nil where the answer was lost.
    ///   - behind: the same of one that sent after it.
    static func between(_ before: UInt16?, _ behind: UInt16?, step: Int) -> [UInt16] {
        guard step != 0, let first = before ?? behind else { return [] }
        let (start, wide) = (Int(first), PunchLimits.guesses)
        var found: [Int]
        if let before, let behind {
            let (from, to) = (Int(before), Int(behind))
            // What was measured before may be a multiple of the step.
            let step = (to - from) % step == 0 ? step : step.signum()
            let count = (to - from) / step
            if (-PunchLimits.stepsBehind...wide).contains(count) {
                let (low, high) = (min(0, count), max(0, count))
                let inside = (low...high).map { from + $0 * step }
                let beside =
                    (1...PunchLimits.stepsBehind).map { from + (high + $0) * step }
                    + (1...PunchLimits.stepsBefore).map { from + (low - $0) * step }
                found = (inside + beside).filter { $0 != from && $0 != to }
            } else {
                // The count has begun anew between the two, or others' connections came in crowds.
                found = (1...wide / 2).flatMap { [from + $0 * step, to - $0 * step] }
            }
        } else {
            let sign = before == nil ? -step : step
            found = (1...wide / 2).flatMap { [start + $0 * sign, start - $0 * sign] }
        }
        let range = Int(PunchLimits.anyPort.lowerBound)...Int(PunchLimits.anyPort.upperBound)
        return found.filter { range.contains($0) }.prefix(wide).compactMap { UInt16(exactly: $0) }
    }
}

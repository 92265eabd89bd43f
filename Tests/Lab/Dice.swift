import Foundation
import TestSupport

/// Random numbers whose every algorithm stands here, so that a seed means the same run with any version of the standard
/// library: SplitMix64, and the draws below.
package struct Dice {
    private var generator: SeededGenerator

    package init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    /// Dice of their own for one part of the lab: what another part draws does not change what this one does.
    package init(seed: UInt64, for part: String) {
        // FNV-1a.
        let hash = part.utf8.reduce(UInt64(0xCBF2_9CE4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
        self.init(seed: seed &* 0x9E37_79B9_7F4A_7C15 ^ hash)
    }

    package mutating func next() -> UInt64 { generator.next() }

    /// 0..<bound; 0 where that is empty.
    package mutating func below(_ bound: UInt64) -> UInt64 { next().multipliedFullWidth(by: bound).high }

    package mutating func port(_ ports: ClosedRange<UInt16>) -> UInt16 {
        ports.lowerBound + UInt16(below(UInt64(ports.count)))
    }

    /// 0..<1
    package mutating func unit() -> Double { Double(next() >> 11) * 0x1p-53 }

    /// True with that probability. Nothing is drawn where the answer is known.
    package mutating func chance(_ ratio: Double) -> Bool { ratio > 0 && (ratio >= 1 || unit() < ratio) }

    /// How often something happened that happens `mean` times on average.
    package mutating func poisson(_ mean: Double) -> Int {
        guard mean > 0 else { return 0 }
        // Knuth's product, in pieces that do not underflow.
        if mean > 30 { return poisson(30) + poisson(mean - 30) }
        let limit = exp(-mean)
        var product = unit()
        var count = 0
        while product > limit {
            product *= unit()
            count += 1
        }
        return count
    }

    package mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
}

import Foundation

/// A small generator whose every run can be had again from its seed.
package struct SeededGenerator: RandomNumberGenerator {
    package let seed: UInt64
    private var state: UInt64

    package init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    /// Seeded by `TURNPIKE_FUZZ_SEED`, or by chance; prints the seed.
    package init(for test: String) {
        let given = ProcessInfo.processInfo.environment["TURNPIKE_FUZZ_SEED"].flatMap { UInt64($0) }
        self.init(seed: given ?? UInt64.random(in: 1...UInt64.max))
        print("\(test): replay with TURNPIKE_FUZZ_SEED=\(seed)")
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}

/// How many rounds a fuzz test runs: `usual`, or what `TURNPIKE_FUZZ_ROUNDS` says.
package func fuzzRounds(_ usual: Int) -> Int {
    ProcessInfo.processInfo.environment["TURNPIKE_FUZZ_ROUNDS"].flatMap { Int($0) } ?? usual
}

/// Bytes written as hexadecimal digits, with spaces anywhere.
package func hex(_ text: String) -> [UInt8] {
    let digits = text.compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

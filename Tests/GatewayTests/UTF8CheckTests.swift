import Testing

@testable import Gateway

struct UTF8CheckTests {
    @Test func agreesWithTheStandardLibraryOnEveryPairAndManyTriples() {
        var generator = SplitMix(seed: 7)
        for first in UInt8.min ... .max {
            for second in UInt8.min ... .max {
                expectAgreement([first, second])
            }
        }
        for _ in 0..<200_000 {
            expectAgreement(
                (0..<Int.random(in: 1...6, using: &generator)).map { _ in
                    // Bytes that begin or continue characters, more often than chance has them.
                    UInt8.random(in: Bool.random(using: &generator) ? 0x80...0xFF : 0...0xFF, using: &generator)
                }
            )
        }
    }

    @Test(
        arguments: [
            [0xC0], [0xC1], [0xE0, 0x80], [0xED, 0xA0], [0xF4, 0x90], [0xF5], [0x80], [0xF0, 0x8F],
        ] as [[UInt8]]
    )
    func failsAtTheFirstByteThatCannotBeRight(_ bytes: [UInt8]) {
        var check = UTF8Check()
        for byte in bytes.dropLast() { #expect(take(&check, [byte])) }
        #expect(!take(&check, [bytes[bytes.count - 1]]))
    }

    @Test func acceptsTextThatIsCutAnywhere() {
        let text = Array("ascii, and longer than a word: κόσμε, 例え, 🂡 and more ascii".utf8)
        for cut in 0...text.count {
            var check = UTF8Check()
            #expect(take(&check, Array(text[..<cut])))
            #expect(take(&check, Array(text[cut...])))
            #expect(check.isComplete)
        }
    }

    private func expectAgreement(_ bytes: [UInt8]) {
        var check = UTF8Check()
        let isText = take(&check, bytes) && check.isComplete
        #expect(isText == (String(validating: bytes, as: UTF8.self) != nil), "\(bytes)")
    }

    private func take(_ check: inout UTF8Check, _ bytes: [UInt8]) -> Bool {
        bytes.withUnsafeBytes { check.take($0) }
    }
}

/// A generator with a seed, so that a failure can be had again.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

import Foundation
import STUN

/// Parses a copy of `bytes` and hands the view to `body`.
func parsing<Result>(_ bytes: [UInt8], _ body: (MessageView) throws -> Result) throws -> Result {
    try bytes.withUnsafeBytes { try body(try MessageView($0)) }
}

/// Why `bytes` are refused, or nil when they are a message.
func refusal(of bytes: [UInt8]) -> MalformedMessage? {
    bytes.withUnsafeBytes { buffer -> MalformedMessage? in
        do throws(MalformedMessage) {
            _ = try MessageView(buffer)
            return nil
        } catch {
            return error
        }
    }
}

/// Builds a message. `body` sees the buffer too, for what the builder itself does not write.
func building(
    _ type: MessageType,
    _ transactionID: TransactionID,
    capacity: Int = 2_048,
    filledWith filler: UInt8 = 0,
    _ body: (inout MessageBuilder, UnsafeMutableRawBufferPointer) -> Void
) -> [UInt8]? {
    var bytes = [UInt8](repeating: filler, count: capacity)
    let length = bytes.withUnsafeMutableBytes { buffer -> Int? in
        var builder = MessageBuilder(type, transactionID, into: buffer)
        body(&builder, buffer)
        return builder.finish()
    }
    return length.map { Array(bytes.prefix($0)) }
}

/// Bytes written as hexadecimal digits, with spaces anywhere.
func hex(_ text: String) -> [UInt8] {
    let digits = text.compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

extension TransactionID {
    init(bytes: [UInt8]) {
        let number = bytes.reduce(into: [UInt64(0), UInt64(0)]) { halves, byte in
            halves[0] = halves[0] << 8 | halves[1] >> 24
            halves[1] = (halves[1] & 0xFF_FFFF) << 8 | UInt64(byte)
        }
        self.init(high: number[0], low: UInt32(number[1]))
    }
}

/// A small generator whose every run can be had again from its seed.
struct SeededGenerator: RandomNumberGenerator {
    let seed: UInt64
    private var state: UInt64

    init(seed: UInt64) {
        self.seed = seed
        state = seed
    }

    /// Seeded by `TURNPIKE_FUZZ_SEED`, or by chance; prints the seed.
    init(for test: String) {
        let given = ProcessInfo.processInfo.environment["TURNPIKE_FUZZ_SEED"].flatMap { UInt64($0) }
        self.init(seed: given ?? UInt64.random(in: 1...UInt64.max))
        print("\(test): replay with TURNPIKE_FUZZ_SEED=\(seed)")
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
        return value ^ value >> 31
    }
}

/// How many rounds a fuzz test runs: `usual`, or what `TURNPIKE_FUZZ_ROUNDS` says.
func fuzzRounds(_ usual: Int) -> Int {
    ProcessInfo.processInfo.environment["TURNPIKE_FUZZ_ROUNDS"].flatMap { Int($0) } ?? usual
}

/// Datagrams to the peer and back, one after the other: each has its number, and a length and bytes by that number.
struct Exchange {
    static let question = UInt8(ascii: "Q")
    static let answer = UInt8(ascii: "R")
    /// An answer that has not come is asked for again.
    static let repetitionNanoseconds: UInt64 = 500_000_000

    var count: UInt64 = 0
    var repeated = 0
    private var number: UInt64 = 0
    private var broken = 0

    init(count: UInt64 = 0) { self.count = count }

    /// What is to be sent; nil when all were answered.
    var next: [UInt8]? { number < count ? Self.datagram(Self.question, number) : nil }

    var summary: String { "\"count\": \(count), \"repeated\": \(repeated), \"broken\": \(broken)" }

    /// - Returns: whether it was the one that was waited for.
    mutating func take(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count >= 9 else { return false }
        let found = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 1, as: UInt64.self))
        guard found < 1 << 32, bytes.elementsEqual(Self.datagram(Self.answer, found)) else {
            broken += 1
            return false
        }
        guard found == number, number < count else { return false }
        number += 1
        return true
    }

    private static func datagram(_ kind: UInt8, _ number: UInt64) -> [UInt8] {
        let head = [kind] + withUnsafeBytes(of: number.bigEndian, Array.init)
        return head + (0..<number * 37 % 1_100).map { UInt8(truncatingIfNeeded: number &* 31 &+ $0 &+ 9) }
    }
}

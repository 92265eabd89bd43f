import Foundation

/// Numbers as people read them.
enum Figure {
    /// `0.21 ms`, `12.3 ms`, `1.25 s`.
    static func time(nanoseconds: UInt64) -> String {
        let milliseconds = Double(nanoseconds) / 1e6
        if milliseconds < 9.995 { return String(format: "%.2f ms", milliseconds) }
        if milliseconds < 99.95 { return String(format: "%.1f ms", milliseconds) }
        if milliseconds < 999.5 { return String(format: "%.0f ms", milliseconds) }
        return String(format: "%.2f s", milliseconds / 1_000)
    }

    /// `980 bit/s`, `1.25 Mbit/s`: powers of a thousand, as networks count.
    static func bitsPerSecond(_ rate: Double) -> String {
        var value = rate.isFinite ? max(rate, 0) : 0
        var units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"][...]
        while value >= 999.5, units.count > 1 {
            value /= 1_000
            units.removeFirst()
        }
        let places = units.count == 4 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2
        return String(format: "%.*f ", places, value) + (units.first ?? "")
    }

    /// Whole packets a second, with a thin grouping of thousands that any locale reads: `12 500/s`.
    static func perSecond(_ rate: Double) -> String { "\(count(UInt64(max(rate.isFinite ? rate : 0, 0).rounded())))/s" }

    static func count(_ number: UInt64) -> String {
        let digits = Array(String(number))
        return String(
            digits.enumerated().flatMap { index, digit in
                index > 0 && (digits.count - index).isMultiple(of: 3) ? [" ", digit] : [digit]
            }
        )
    }

    /// `1 packet`, `2 packets`.
    static func count(_ number: UInt64, _ noun: String) -> String {
        "\(count(number)) \(noun)\(number == 1 ? "" : "s")"
    }

    /// A share in per cent. What is not nothing never looks like nothing.
    static func percent(_ part: UInt64, of whole: UInt64) -> String {
        guard whole > 0, part > 0 else { return "0 %" }
        let share = Double(part) / Double(whole) * 100
        return share < 0.01 ? "< 0.01 %" : String(format: share < 10 ? "%.2f %%" : "%.0f %%", share)
    }
}

enum JSON {
    /// Keys in the order of the alphabet, absent values as null.
    static func text(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self) + "\n"
    }

    /// The same on one line, without an end; nil for what cannot be written.
    static func line(_ value: some Encodable) -> String? {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return (try? encoder.encode(value)).map { String(decoding: $0, as: UTF8.self) }
    }
}

/// A value that is written as null where there is none, so that a reader finds the same keys always.
struct OrNull<Value: Encodable>: Encodable {
    let value: Value?

    init(_ value: Value?) {
        self.value = value
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let value { try container.encode(value) } else { try container.encodeNil() }
    }
}

extension Double {
    /// Microseconds are enough for a figure that a program reads.
    var thousandths: Double { (self * 1_000).rounded() / 1_000 }
}

/// Numbers as people read them.
package enum Quantity {
    /// `3 B`, `1.5 kB`, `20 MB`: powers of a thousand, as networks count.
    package static func bytes(_ count: UInt64) -> String {
        scaled(Double(count), ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
    }

    package static func bitsPerSecond(_ rate: Double) -> String {
        scaled(rate, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"])
    }

    package static func perSecond(_ rate: Double) -> String { scaled(rate, ["/s", "k/s", "M/s", "G/s"]) }

    /// The two largest units: `3d 4h`, `12m 5s`, `0s`.
    package static func duration(seconds: UInt64) -> String {
        let parts = [
            (seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"),
        ]
        guard let first = parts.firstIndex(where: { $0.0 > 0 }) else { return "0s" }
        return parts[first...].prefix(2).filter { $0.0 > 0 }.map { "\($0.0)\($0.1)" }.joined(separator: " ")
    }

    /// `1 room`, `2 rooms`.
    package static func count(_ number: some BinaryInteger, _ noun: String) -> String {
        "\(number) \(noun)\(number == 1 ? "" : "s")"
    }

    private static func scaled(_ value: Double, _ units: [String]) -> String {
        var value = value.isFinite ? max(value, 0) : 0
        var index = 0
        while value >= 999.5, index < units.count - 1 {
            value /= 1_000
            index += 1
        }
        // Three digits say enough: 1.53, 15.3, 153.
        let tenths = (value * 10).rounded()
        let digits =
            index == 0 || value >= 99.95 ? "\(Int(value.rounded()))" : "\(Int(tenths) / 10).\(Int(tenths) % 10)"
        return "\(digits) \(units[index])"
    }
}

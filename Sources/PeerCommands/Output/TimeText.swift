/// Lengths of time, as they are typed and as they are shown.
package enum TimeText {
    /// The two largest units: `3d 4h`, `12m 5s`, `0s`.
    static func duration(seconds: UInt64) -> String {
        let parts = [
            (seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s"),
        ]
        guard let first = parts.firstIndex(where: { $0.0 > 0 }) else { return "0s" }
        return parts[first...].prefix(2).filter { $0.0 > 0 }.map { "\($0.0)\($0.1)" }.joined(separator: " ")
    }

    /// Seconds of a time such as `90s`, `5m`, or `10`, which are seconds.
    package static func seconds(_ text: String) -> Int? {
        let unit = text.last.map { $0.isNumber ? "s" : $0 } ?? "s"
        let digits = text.last?.isNumber == true ? text[...] : text.dropLast()
        guard (1...6).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let count = Int(digits)
        else { return nil }
        switch unit {
        case "s": return count
        case "m": return count * 60
        default: return nil
        }
    }
}

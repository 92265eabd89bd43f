/// The time at which a server wrote an answer (RFC 9110 section 5.6.7).
enum HTTPDate {
    /// Reads `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that servers may write.
    /// - Returns: seconds since 1970; nil for any other form.
    static func seconds(_ text: String) -> Int64? {
        let parts = text.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 6, parts[5] == "GMT", let month = months.firstIndex(of: String(parts[2])),
            let day = number(parts[1], 1...31), let year = number(parts[3], 1970...9999)
        else { return nil }
        let clock = parts[4].split(separator: ":", omittingEmptySubsequences: false)
        guard clock.count == 3, let hour = number(clock[0], 0...23), let minute = number(clock[1], 0...59),
            let second = number(clock[2], 0...60)
        else { return nil }
        return (days(year, Int64(month) + 1, day) * 24 + hour) * 3_600 + minute * 60 + second
    }

    /// Writes that form.
    static func text(_ seconds: Int64) -> String {
        // A thousand years are enough, and the arithmetic stays within its bounds.
        let seconds = min(max(seconds, 0), 32_503_679_999)
        let (count, rest) = seconds.quotientAndRemainder(dividingBy: 86_400)
        // The day is in the month that begins last before it.
        var (year, month) = (1970 + count / 366, Int64(12))
        while days(year + 1, 1, 1) <= count { year += 1 }
        while days(year, month, 1) > count { month -= 1 }
        let fields = [rest / 3_600, rest / 60 % 60, rest % 60].map { $0 < 10 ? "0\($0)" : "\($0)" }
        let day = count - days(year, month, 1) + 1
        // 1 January 1970 was a Thursday.
        return "\(weekdays[Int(count % 7)]), \(day < 10 ? "0" : "")\(day) \(months[Int(month) - 1]) \(year) "
            + "\(fields.joined(separator: ":")) GMT"
    }

    private static func number(_ text: Substring, _ range: ClosedRange<Int64>) -> Int64? {
        guard text.allSatisfy({ ("0"..."9").contains($0) }), let value = Int64(text), range.contains(value)
        else { return nil }
        return value
    }

    /// Days since 1970, in years that begin on 1 March, so that the day of a leap year comes last.
    private static func days(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let year = month > 2 ? year : year - 1
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return 365 * year + year / 4 - year / 100 + year / 400 + dayOfYear - 719_468
    }

    private static let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
    private static let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
}

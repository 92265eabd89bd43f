/// A calendar month of UTC, written `2026-11`.
package struct UsageMonth: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// Months since January of the year 0.
    private let number: Int64

    /// The month in which a moment lies.
    /// - Parameter seconds: since 1970; what lies outside of the years 0 to 9999 counts as their first or last moment.
    package init(containingSeconds seconds: Int64) {
        let seconds = min(max(seconds, Self.firstSecond), AccountLimits.expirySecondsMax)
        number = Self.number(ofDay: Self.floor(seconds, 86_400))
    }

    /// - Returns: nil unless the text is four digits, a hyphen and a month from 01 to 12.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count == 7, bytes[4] == UInt8(ascii: "-") else { return nil }
        let digits = (bytes[..<4] + bytes[5...]).map { Int64($0) - 0x30 }
        guard digits.allSatisfy({ (0...9).contains($0) }) else { return nil }
        let year = digits[..<4].reduce(0) { $0 * 10 + $1 }
        let month = digits[4] * 10 + digits[5]
        guard (1...12).contains(month) else { return nil }
        number = year * 12 + month - 1
    }

    private init(number: Int64) { self.number = number }

    package var description: String {
        let year = String(Self.floor(number, 12))
        let month = String(number - Self.floor(number, 12) * 12 + 1)
        return String(repeating: "0", count: max(0, 4 - year.count)) + year + (month.count < 2 ? "-0" : "-") + month
    }

    package var next: UsageMonth { UsageMonth(number: number + 1) }

    /// The month so many before; not before the year 0.
    package func earlier(by months: Int) -> UsageMonth { UsageMonth(number: max(0, number - Int64(months))) }

    /// The month's first second since 1970.
    package var startSeconds: Int64 {
        let year = Self.floor(number, 12)
        let month = number - year * 12
        // Years are counted from March, so that a leap day is a year's last one; 306 days lie before January then.
        let marchYear = month < 2 ? year - 1 : year
        let marchMonth = (month + 10) % 12
        let dayOfYear = (153 * marchMonth + 2) / 5
        let leapDays = Self.floor(marchYear, 4) - Self.floor(marchYear, 100) + Self.floor(marchYear, 400)
        return (marchYear * 365 + leapDays + dayOfYear - Self.daysToEpoch) * 86_400
    }

    package static func < (left: UsageMonth, right: UsageMonth) -> Bool { left.number < right.number }

    private static func number(ofDay day: Int64) -> Int64 {
        // 4,800 months of the Gregorian calendar have 146,097 days. The estimate is off by less than one month; one
        // that is too early is put right by the loop.
        let estimate = floor((day + daysToEpoch) * 4_800, 146_097) + 2
        var month = UsageMonth(number: max(0, estimate - 1))
        while month.next.startSeconds <= day * 86_400 { month = month.next }
        return month.number
    }

    private static func floor(_ value: Int64, _ divisor: Int64) -> Int64 {
        let quotient = value / divisor
        return value % divisor < 0 ? quotient - 1 : quotient
    }

    /// From 1 March of the year 0 to 1 January 1970.
    private static let daysToEpoch: Int64 = 719_468
    /// 1 January of the year 0.
    private static let firstSecond: Int64 = -719_528 * 86_400
}

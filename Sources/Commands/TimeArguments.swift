import Accounts
import ArgumentParser
import Foundation

/// A length of time, such as `90s`, `15m`, `1h`, `30d`, `2w`, or several together: `1d12h`.
struct DurationArgument {
    /// At least 1, at most `secondsMax`.
    let seconds: Int64

    init(seconds: Int64) {
        self.seconds = seconds
    }

    /// - Throws: the parser's kind of error, with the mend.
    static func parse(_ argument: String) throws -> DurationArgument {
        guard let duration = DurationArgument(argument: argument) else {
            throw ValidationError("give a time such as 90s, 15m, 1h or 1d12h")
        }
        return duration
    }

    init?(argument: String) {
        var total: Int64 = 0
        var digits = ""
        for character in argument {
            if character.isASCII, character.isNumber {
                digits.append(character)
                continue
            }
            guard let unit = Self.secondsByUnit[character], let count = Int64(digits) else { return nil }
            let (product, tooLong) = count.multipliedReportingOverflow(by: unit)
            let (sum, tooMuch) = total.addingReportingOverflow(product)
            guard !tooLong, !tooMuch, sum <= Self.secondsMax else { return nil }
            total = sum
            digits = ""
        }
        guard digits.isEmpty, total > 0 else { return nil }
        seconds = total
    }

    /// A hundred years: more is a slip of the finger.
    static let secondsMax: Int64 = 100 * 365 * 86_400

    private static let secondsByUnit: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800]
}

/// A moment: a length of time from now, a date (its first second in UTC), or a date and time with its offset.
struct MomentArgument {
    private enum Kind {
        case after(seconds: Int64)
        case at(seconds: Int64)
    }

    private let kind: Kind

    /// - Throws: the parser's kind of error, with the mend.
    static func parse(_ argument: String) throws -> MomentArgument {
        guard let moment = MomentArgument(argument: argument) else {
            throw ValidationError("give a time from now such as 30d, or a date such as 2027-01-31")
        }
        return moment
    }

    init?(argument: String) {
        if let duration = DurationArgument(argument: argument) {
            kind = .after(seconds: duration.seconds)
        } else if let seconds = Self.seconds(ofDate: argument) {
            kind = .at(seconds: seconds)
        } else {
            return nil
        }
    }

    /// Seconds since 1970.
    func seconds(now: Int64) -> Int64 {
        switch kind {
        case .after(let seconds): now + seconds
        case .at(let seconds): seconds
        }
    }

    private static func seconds(ofDate text: String) -> Int64? {
        let isDateOnly = text.utf8.count == 10
        let complete = isDateOnly ? text + "T00:00:00Z" : text
        guard let date = try? Date(complete, strategy: .iso8601) else { return nil }
        let seconds = date.timeIntervalSince1970
        guard seconds >= 0, seconds <= TimeInterval(AccountLimits.expirySecondsMax) else { return nil }
        // A lenient reader turns 31 February into 3 March, which nobody meant.
        if isDateOnly || text.hasSuffix("Z") {
            guard Timestamp.text(seconds: Int64(seconds)) == complete else { return nil }
        }
        return Int64(seconds)
    }
}

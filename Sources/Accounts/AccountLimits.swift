/// Every bound of the account store, each with its reason.
package enum AccountLimits {
    /// Bytes of a name in UTF-8. USERNAME holds at most 508 bytes (RFC 8489 section 14.3), and a time-limited
    /// username puts an expiry and a colon in front of the name.
    package static let nameBytesMax = 255

    /// Characters of a realm: REALM holds fewer than 128 (RFC 8489 section 14.9).
    package static let realmCharactersMax = 127

    /// Bytes of a shared secret. HMAC-SHA1 folds a key of more than 64 bytes; the rest is room for other tools' habits.
    package static let secretBytesMax = 1024

    /// Shared secrets. A time-limited credential is tried against each of them, so this bounds the work per request.
    package static let secretsMax = 16

    /// Tokens of the API. A page of a list, and more than one person hands out.
    package static let tokensMax = 1000

    /// Allocations a single user may be granted: more than one server has ports.
    package static let allocationsPerUserMax = 1_000_000

    /// Bits per second that a limit of bandwidth can name: more than a machine relays, and small enough for the relay's
    /// arithmetic.
    package static let bitsPerSecondMax: Int64 = 400_000_000_000

    /// Bytes a month that a limit can name: an exabyte, so that two of them can be added.
    package static let monthlyBytesMax: Int64 = 1_000_000_000_000_000_000

    /// Months of usage that are kept besides the one that runs: a year, and one to compare it with.
    package static let usageMonthsKept = 13

    /// Below this, no sum of two counts overflows.
    static let countMax: Int64 = 1 << 62

    /// The last moment that can be named: the end of the year 9999, which every date format still writes with four
    /// digits.
    package static let expirySecondsMax: Int64 = 253_402_300_799

    /// How long a writer waits for another one.
    package static let busyTimeoutSeconds = 5

    /// Rows kept in `changes`. A server asks every second, so only one that was stopped falls behind, and it reloads.
    package static let changesKept: Int64 = 10_000

    /// Rows kept in `audit`: years of one operator's commands in a few megabytes.
    package static let auditKept: Int64 = 100_000
}

import Accounts
import ArgumentParser

struct UserLimit: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "limit",
        abstract: "Change what a user may.",
        discussion: """
            What is not named stays as it is. A running server follows within a second, for allocations that the user \
            holds too; only a lower number of allocations ends none and holds for new ones.
            """
    )

    @Argument(help: "The user's name.")
    var name: String

    @Option(
        help: ArgumentHelp(
            "How many allocations the user may hold at once, or default for the server's limit.",
            valueName: "n"
        ),
        transform: { try LimitArgument($0, unset: "default", in: 1...Int64(AccountLimits.allocationsPerUserMax)) }
    )
    var maxAllocations: LimitArgument?

    @Option(
        help: ArgumentHelp(
            "How many bits per second each of the user's allocations may relay, 0 for any, or default for the server's "
                + "limit.",
            valueName: "n"
        ),
        transform: { try LimitArgument($0, unset: "default", in: 0...AccountLimits.bitsPerSecondMax) }
    )
    var maxBps: LimitArgument?

    @Option(
        help: ArgumentHelp(
            "How many bytes the user may relay in a calendar month (UTC), or unlimited.",
            valueName: "n"
        ),
        transform: { try LimitArgument($0, unset: "unlimited", in: 1...AccountLimits.monthlyBytesMax) }
    )
    var monthlyBytes: LimitArgument?

    @Option(
        help: ArgumentHelp(
            "When the user expires: a time from now (30d, 12h), a date (2027-01-31) or a date and time, or never.",
            valueName: "when"
        ),
        transform: { $0 == "never" ? .never : .moment(try MomentArgument.parse($0)) }
    )
    var expires: Expiry?

    @OptionGroup var installation: InstallationOptions

    enum Expiry: Sendable {
        case never
        case moment(MomentArgument)
    }

    func validate() throws {
        guard maxAllocations != nil || maxBps != nil || monthlyBytes != nil || expires != nil else {
            throw ValidationError("name a limit: --max-allocations, --max-bps, --monthly-bytes or --expires")
        }
    }

    func run() throws {
        let console = Console.current
        let name = try AccountName(name)
        let now = console.now()
        var expiresAtSeconds: Int64?
        if case .moment(let moment) = expires {
            let seconds = moment.seconds(now: now)
            guard seconds > now else {
                throw CommandError.usage(
                    "\(Timestamp.text(seconds: seconds)) is past already; run turnpike user disable \(name), "
                        + "or give --expires a time to come"
                )
            }
            expiresAtSeconds = seconds
        }
        let store = try installation.store(of: installation.settings(), mode: .readWrite)
        try store.setLimits(of: name) { limits in
            // Made from 64 bits and within the range of allocations, so the conversion is exact.
            if let maxAllocations { limits.maxAllocations = maxAllocations.number.map { Int($0) } }
            if let maxBps { limits.maxBitsPerSecond = maxBps.number }
            if let monthlyBytes { limits.monthlyBytes = monthlyBytes.number }
            if expires != nil { limits.expiresAtSeconds = expiresAtSeconds }
        }
        console.message("turnpike: changed the limits of user \(name)")
    }
}

/// A whole number within a range.
enum NumberArgument {
    /// - Parameter alternative: what may be written instead, for the message.
    static func parse(
        _ text: String,
        in range: ClosedRange<Int64>,
        or alternative: String? = nil
    ) throws -> Int64 {
        guard let number = Int64(text), range.contains(number) else {
            throw ValidationError(
                "give a number of \(range.lowerBound) to \(range.upperBound)" + (alternative.map { ", or \($0)" } ?? "")
            )
        }
        return number
    }
}

/// A number, or the word that takes a limit away again.
struct LimitArgument: Sendable {
    /// Nil for none.
    let number: Int64?

    init(_ text: String, unset: String, in range: ClosedRange<Int64>) throws {
        number = text == unset ? nil : try NumberArgument.parse(text, in: range, or: unset)
    }
}

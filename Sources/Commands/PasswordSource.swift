import Accounts
import ArgumentParser
import Server

/// Where a new password comes from. It is never an argument: those are in the shell's history and in `ps`.
struct PasswordOptions: ParsableArguments {
    @Flag(
        help: "Read the password from the first line of standard input. Without it, one is generated and printed once."
    )
    var passwordStdin = false

    var isGenerated: Bool { !passwordStdin }

    func password() throws -> Password {
        guard passwordStdin else { return .generated() }
        guard let text = String(validating: try Console.current.firstLine("password"), as: UTF8.self) else {
            throw CommandError.usage("the password is not UTF-8; write it in UTF-8")
        }
        let password = try Password(text)
        if password.estimatedBits < Password.bitsRecommended {
            Console.current.message(
                "turnpike: the password has at most \(password.estimatedBits) bits, and anyone can try passwords; "
                    + "without --password-stdin you get one of \(Password.bitsRecommended)"
            )
        }
        return password
    }
}

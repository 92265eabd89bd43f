import ArgumentParser
import Foundation

/// Where the credential for a TURN server comes from. The password is never an argument: those are in the shell's
/// history and in `ps`.
struct CredentialOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The user. Without it: TURN_USERNAME.", valueName: "name"))
    var username: String?

    @Flag(help: "Read the password from the first line of standard input. Without it: TURN_PASSWORD.")
    var passwordStdin = false

    @Option(help: ArgumentHelp("Read the password from the first line of a file.", valueName: "file"))
    var passwordFile: String?

    func validate() throws {
        if passwordStdin, passwordFile != nil {
            throw ValidationError("--password-stdin and --password-file exclude each other")
        }
    }

    /// - Throws: status 64 with what is missing.
    func credential() throws -> (username: String, password: String) {
        let environment = Console.current.environment
        guard let username = username ?? Self.value(environment, "TURN_USERNAME", "P2P_TURN_USERNAME") else {
            throw CommandError.usage("no user is named; give --username, or set TURN_USERNAME")
        }
        guard let password = try password(environment) else {
            throw CommandError.usage(
                "there is no password; give --password-stdin or --password-file, or set TURN_PASSWORD"
            )
        }
        return (username, password)
    }

    private func password(_ environment: [String: String]) throws -> String? {
        let bytes: [UInt8]
        if passwordStdin {
            bytes = try Console.current.firstLine("password")
        } else if let passwordFile {
            bytes = try Self.firstLine(ofFile: passwordFile)
        } else {
            return Self.value(environment, "TURN_PASSWORD", "P2P_TURN_PASSWORD")
        }
        let line = bytes.last == UInt8(ascii: "\r") ? bytes.dropLast() : bytes[...]
        guard let text = String(validating: line, as: UTF8.self), !text.isEmpty,
            !text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F })
        else { throw CommandError.usage("the password is empty, not UTF-8, or has a control character in it") }
        return text
    }

    private static func firstLine(ofFile path: String) throws -> [UInt8] {
        guard let file = FileHandle(forReadingAtPath: path) else {
            throw CommandError.usage(
                "--password-file: \(path.escapedForTerminal) cannot be read; name a file that you may read"
            )
        }
        defer { try? file.close() }
        let data: Data?
        do {
            data = try file.read(upToCount: 4_096)
        } catch {
            throw CommandError.usage(
                "--password-file: \(path.escapedForTerminal) cannot be read; name a file that you may read"
            )
        }
        return Array((data ?? Data()).prefix { $0 != UInt8(ascii: "\n") })
    }

    private static func value(_ environment: [String: String], _ names: String...) -> String? {
        names.lazy.compactMap { environment[$0] }.first { !$0.isEmpty }
    }
}

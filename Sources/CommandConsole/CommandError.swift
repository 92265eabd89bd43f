/// Exit statuses, as sysexits.h names them.
package enum ExitStatus {
    package static let done: Int32 = 0
    package static let failed: Int32 = 1
    package static let usage: Int32 = 64
    package static let configuration: Int32 = 78
}

/// Ends a command with a status and what to say on standard error: what is wrong, where, and the mend.
package struct CommandError: Error, CustomStringConvertible {
    package let status: Int32
    package let lines: [String]

    package init(status: Int32, lines: [String]) {
        self.status = status
        self.lines = lines
    }

    package static func failed(_ line: String) -> CommandError {
        CommandError(status: ExitStatus.failed, lines: [line])
    }

    package static func usage(_ line: String) -> CommandError {
        CommandError(status: ExitStatus.usage, lines: [line])
    }

    package var description: String { lines.joined(separator: "\n") }
}

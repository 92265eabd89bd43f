import Foundation

/// What a command sees of the world: its environment, its user, its three streams, and the time. Tests put their own in
/// place.
package struct Console: Sendable {
    /// The one that commands use.
    @TaskLocal package static var current = Console.process

    package var environment: [String: String]
    package var effectiveUser: UInt32
    /// The wall clock in seconds since 1970.
    package var now: @Sendable () -> Int64
    /// Reads up to so many bytes of standard input; fewer mean that it ended.
    package var read: @Sendable (_ bytesMax: Int) -> [UInt8]
    /// Writes to standard output, or returns the error number.
    package var output: @Sendable ([UInt8]) -> Int32
    /// Writes to standard error. There is nobody to tell when that fails.
    package var diagnostics: @Sendable ([UInt8]) -> Void
    /// Stops a terminal on standard input from showing what is typed while `body` runs. Does nothing for other inputs.
    package var withoutEcho: @Sendable (_ prompt: String, _ body: () -> [UInt8]) -> [UInt8]
    /// Whether a person types standard input.
    package var inputIsTerminal = false
    /// Whether a person sees standard output.
    package var outputIsTerminal = false
    /// Whether a person sees standard error, so that progress may be shown there.
    package var diagnosticsAreTerminal = false

    package init(
        environment: [String: String],
        effectiveUser: UInt32 = geteuid(),
        now: @escaping @Sendable () -> Int64 = { Int64(Date().timeIntervalSince1970) },
        read: @escaping @Sendable (_ bytesMax: Int) -> [UInt8],
        output: @escaping @Sendable ([UInt8]) -> Int32,
        diagnostics: @escaping @Sendable ([UInt8]) -> Void,
        withoutEcho: @escaping @Sendable (_ prompt: String, _ body: () -> [UInt8]) -> [UInt8] = { $1() }
    ) {
        self.environment = environment
        self.effectiveUser = effectiveUser
        self.now = now
        self.read = read
        self.output = output
        self.diagnostics = diagnostics
        self.withoutEcho = withoutEcho
    }

    /// Whether a person sits in front of standard input and output.
    package var isTerminal: Bool { inputIsTerminal && outputIsTerminal }

    /// A line for the person, to standard error.
    package func message(_ line: String) {
        diagnostics(Array((line + "\n").utf8))
    }

    /// Data for the next program, to standard output; a newline is added where the text does not end with one.
    /// - Parameter mend: what to do when it cannot be written.
    package func write(_ text: String, mend: String = "send it elsewhere") throws {
        try write(bytes: Array((text.isEmpty || text.hasSuffix("\n") ? text : text + "\n").utf8), mend: mend)
    }

    /// Bytes for the next program, as they are.
    package func write(bytes: [UInt8], mend: String = "send it elsewhere") throws {
        let code = output(bytes)
        guard code == 0 else {
            throw CommandError.failed(
                "standard output cannot be written (\(String(cString: strerror(code)))); \(mend)"
            )
        }
    }

    /// Standard input's first line without its end, as bytes.
    /// - Parameter what: for the messages, such as "password".
    package func firstLine(_ what: String) throws -> [UInt8] {
        let line = withoutEcho(what.prefix(1).uppercased() + what.dropFirst() + ": ") {
            var bytes: [UInt8] = []
            while bytes.count <= Self.lineBytesMax, let byte = read(1).first, byte != UInt8(ascii: "\n") {
                bytes.append(byte)
            }
            return bytes
        }
        guard line.count <= Self.lineBytesMax else {
            throw CommandError.usage(
                "the first line of standard input has more than \(Self.lineBytesMax) bytes; give a shorter \(what)"
            )
        }
        let text = line.last == UInt8(ascii: "\r") ? Array(line.dropLast()) : line
        guard !text.isEmpty else {
            throw CommandError.usage(
                "standard input has no first line; write the \(what) to it, as in: printf '%s\\n' …"
            )
        }
        guard !text.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
            throw CommandError.usage("the \(what) contains a control character; leave it out")
        }
        return text
    }

    private static let lineBytesMax = 4096
}

extension Console {
    private static let process: Console = {
        var console = Console(
            environment: ProcessInfo.processInfo.environment,
            read: { bytesMax in
                var buffer = [UInt8](repeating: 0, count: bytesMax)
                var count = Foundation.read(STDIN_FILENO, &buffer, bytesMax)
                while count < 0 && errno == EINTR { count = Foundation.read(STDIN_FILENO, &buffer, bytesMax) }
                return Array(buffer.prefix(max(0, count)))
            },
            output: { writeAll($0, to: STDOUT_FILENO) },
            diagnostics: { _ = writeAll($0, to: STDERR_FILENO) },
            withoutEcho: { prompt, body in
                var settings = termios()
                guard tcgetattr(STDIN_FILENO, &settings) == 0 else { return body() }
                _ = writeAll(Array(prompt.utf8), to: STDERR_FILENO)
                var silent = settings
                // Without signals from the keyboard, too: one would end the process with the terminal still silent. A
                // Ctrl-C then arrives as a control character, which `firstLine` refuses.
                silent.c_lflag &= ~tcflag_t(ECHO | ISIG)
                tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent)
                defer {
                    tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
                    _ = writeAll([UInt8(ascii: "\n")], to: STDERR_FILENO)
                }
                return body()
            }
        )
        console.inputIsTerminal = isatty(STDIN_FILENO) == 1
        console.outputIsTerminal = isatty(STDOUT_FILENO) == 1
        console.diagnosticsAreTerminal = isatty(STDERR_FILENO) == 1
        return console
    }()

    private static func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                return errno
            }
            rest = rest.dropFirst(count)
        }
        return 0
    }
}

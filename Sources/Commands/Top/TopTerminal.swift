import Foundation
import Synchronization

/// The whole of a terminal, taken until `restore`.
final class TopTerminal {
    private let console = Console.current
    private var saved: termios?

    init() {
        // The handlers' flag has to be there before a signal comes.
        Self.isEnded.store(false, ordering: .relaxed)
        for number in [SIGTERM, SIGHUP, SIGINT] {
            signal(number) { _ in TopTerminal.isEnded.store(true, ordering: .relaxed) }
        }
        var settings = termios()
        if tcgetattr(STDIN_FILENO, &settings) == 0 {
            saved = settings
            // Without signals from the keyboard: Ctrl-C arrives as a character, and the terminal is given back first.
            settings.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG)
            tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings)
        }
        // The alternate screen keeps what stood there before; the cursor would only flicker.
        write("\u{1B}[?1049h\u{1B}[?25l")
    }

    func restore() {
        write("\u{1B}[?25h\u{1B}[?1049l")
        if var saved { tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved) }
        saved = nil
        for number in [SIGTERM, SIGHUP, SIGINT] { signal(number, SIG_DFL) }
    }

    /// 24 by 80 where the terminal does not say.
    var size: (rows: Int, columns: Int) {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_row > 1, size.ws_col > 0 else {
            return (24, 80)
        }
        return (Int(size.ws_row), Int(size.ws_col))
    }

    /// Overwrites what was shown, so that nothing flickers.
    func show(_ lines: [String]) {
        write("\u{1B}[H" + lines.map { $0 + "\u{1B}[K" }.joined(separator: "\n") + "\u{1B}[J")
    }

    /// - Returns: false where a key or a signal asks for the end.
    func pause(milliseconds: Int) -> Bool {
        let deadline = ContinuousClock.now + .milliseconds(milliseconds)
        while !Self.isEnded.load(ordering: .relaxed) {
            let left = ContinuousClock.now.duration(to: deadline).components
            let wait = left.seconds * 1_000 + left.attoseconds / 1_000_000_000_000_000
            guard wait > 0 else { return true }
            var input = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
            // In slices, as another thread may be the one that a signal interrupts.
            guard poll(&input, 1, Int32(clamping: min(wait, 100))) > 0 else { continue }
            let keys = console.read(64)
            // q, Ctrl-C, Ctrl-D, or the end of input.
            if keys.isEmpty || keys.contains(where: { [UInt8(ascii: "q"), UInt8(ascii: "Q"), 3, 4].contains($0) }) {
                return false
            }
        }
        return false
    }

    private func write(_ text: String) { _ = console.output(Array(text.utf8)) }

    private static let isEnded = Atomic(false)
}

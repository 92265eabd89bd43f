/// One line of a terminal's standard error that is written over again and again, and wiped at the end.
struct ProgressLine: Sendable {
    private let console: Console

    init(_ console: Console) {
        self.console = console
    }

    /// - Parameter text: cut to what fits beside a terminal's edge, as a line that wraps cannot be written over.
    func show(_ text: String) {
        console.diagnostics(Array("\r\(text.prefix(78))\u{1B}[K".utf8))
    }

    func clear() {
        console.diagnostics(Array("\r\u{1B}[K".utf8))
    }
}

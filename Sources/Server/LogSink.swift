import Foundation
import Synchronization

/// Writes log lines to standard error without ever making the caller wait: a disk that is full or a pipe that nobody
/// reads costs lines, which are counted, and not calls.
package final class LogSink: Sendable {
    private struct State {
        var lines: [String] = []
        var dropped = 0
        var isWriting = false
    }

    private let state = Mutex(State())
    private let queue = DispatchQueue(label: "turnpike.log")
    private let descriptor: Int32

    package init(descriptor: Int32 = STDERR_FILENO) { self.descriptor = descriptor }

    func write(_ line: String) {
        let mustStart = state.withLock { state in
            guard state.lines.count < Self.linesMax else {
                state.dropped += 1
                return false
            }
            state.lines.append(line)
            guard !state.isWriting else { return false }
            state.isWriting = true
            return true
        }
        if mustStart { queue.async { self.drain() } }
    }

    /// Waits until what was written has left, or a second has passed: for the end of the process.
    package func flush() {
        let done = DispatchSemaphore(value: 0)
        queue.async { done.signal() }
        _ = done.wait(timeout: .now() + 1)
    }

    private func drain() {
        while true {
            let (lines, dropped) = state.withLock { state -> ([String], Int) in
                defer {
                    state.lines = []
                    state.dropped = 0
                }
                if state.lines.isEmpty { state.isWriting = false }
                return (state.lines, state.dropped)
            }
            if lines.isEmpty { return }
            var text = lines.joined(separator: "\n") + "\n"
            if dropped > 0 { text += "turnpike: \(dropped) log lines were lost, since nobody read them in time\n" }
            var bytes = Array(text.utf8)[...]
            while !bytes.isEmpty {
                let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
                if count < 0 {
                    if errno == EINTR { continue }
                    break
                }
                bytes = bytes.dropFirst(count)
            }
        }
    }

    /// About two megabytes of lines.
    private static let linesMax = 10_000
}

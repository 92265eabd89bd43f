import Lab

/// What is wrong with a line or an argument.
package struct WordError: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }
}

extension LinkQuality {
    /// Changes it by a word such as `delay_ms=25`.
    package mutating func apply(_ word: some StringProtocol) throws {
        let parts = word.split(separator: "=", maxSplits: 1)
        guard parts.count == 2 else { throw WordError("expected NAME=VALUE, not \(word)") }
        let text = String(parts[1])
        func number(_ range: ClosedRange<Double>) throws -> Double {
            guard let value = Double(text), range.contains(value) else {
                let bounds = "from \(range.lowerBound) to \(range.upperBound)"
                throw WordError("\(parts[0]) is \(text), and must be a number \(bounds)")
            }
            return value
        }
        switch parts[0] {
        case "delay_ms": delayMilliseconds = try number(0...60_000)
        case "jitter_ms": jitterMilliseconds = try number(0...60_000)
        case "loss": lossRatio = try number(0...1)
        case "reorder": reorderRatio = try number(0...1)
        case "reorder_ms": reorderMilliseconds = try number(0...60_000)
        case "duplicate": duplicateRatio = try number(0...1)
        case "rate_bps":
            // 0 is as fast as can be.
            let rate = try number(0...1e12)
            bitsPerSecond = rate > 0 ? rate : nil
        case "queue_bytes": queueBytes = Int(try number(0...1e9))
        case "mtu": mtuBytes = Int(try number(68...2_000))
        default: throw WordError("there is no \(parts[0])")
        }
    }
}

extension LinkEmulator {
    /// Obeys a line: `cut`, `repair`, `report`, or NAME=VALUE words behind `up`, `down` or `both`.
    /// - Returns: the answer.
    package mutating func obey(_ line: String) -> String {
        let words = line.split(separator: " ")
        switch words.first {
        case "cut": cut()
        case "repair": repair()
        case "report": return "\(report(.up)) \(report(.down))"
        case "up", "down", "both":
            do {
                for direction in Direction.allCases where words[0] == "both" || words[0] == direction.rawValue {
                    try change(direction) { quality in for word in words.dropFirst() { try quality.apply(word) } }
                }
            } catch {
                return "error: \(error)"
            }
        default: return "error: there is no command \(words.first ?? "")"
        }
        return "ok"
    }

    private func report(_ direction: Direction) -> String {
        let counters = counters(direction)
        let figures = [
            ("received", counters.received), ("delivered", counters.delivered), ("dropped", counters.dropped),
            ("late_us_max", Int(counters.lateNanosecondsMax / 1_000)),
            ("late_us_mean", Int(counters.lateNanosecondsSum / 1_000) / max(1, counters.delivered)),
            ("late_count", counters.lateCount),
        ]
        return figures.map { "\(direction.rawValue)_\($0.0)=\($0.1)" }.joined(separator: " ")
    }
}

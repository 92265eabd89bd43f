import Foundation

extension BenchReport {
    /// The report for a person.
    package func text(_ style: Style) -> String {
        var lines = [
            Self.row("server", "\(plan.server.escapedForTerminal) by \(plan.transport.word.uppercased())"),
            Self.row("connections", connectionWords),
        ]
        if plan.rate == .search { lines += ["", style.bold("Search")] + searchLines(style) + [""] }
        if let step = leading {
            if plan.rate == .search {
                lines.append(Self.row("best", style.bold("\(Figure.perSecond(step.rate)) without loss")))
            }
            lines += stepLines(step, style)
        } else if plan.rate == .search {
            lines.append(Self.row("best", style.bad("no rate went without loss")))
        }
        for (reason, count) in failures.sorted(by: { $0.key < $1.key }) {
            lines.append(Self.row("failed", style.bad("\(Figure.count(UInt64(count), "connection")): \(reason)")))
        }
        if let note { lines += ["", style.warning(note)] }
        if isCutShort { lines += ["", style.warning("It was interrupted: the figures are of the time until then.")] }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func row(_ label: String, _ value: String) -> String { label.padded(to: 14) + value }

    private var connectionWords: String {
        let median = allocation.percentile(50).map { "; an allocation took \(Figure.time(nanoseconds: $0))" } ?? ""
        let longest =
            allocation.count > 1 ? ", the longest \(Figure.time(nanoseconds: allocation.longestNanoseconds))" : ""
        return "\(connections), ready in \(Figure.time(nanoseconds: setupNanoseconds))\(median)\(longest)"
    }

    private func searchLines(_ style: Style) -> [String] {
        steps.map { step in
            let verdict: String
            if step.isClean {
                verdict = style.good("no loss")
            } else if step.lost > 0 {
                verdict = style.bad("lost \(Figure.count(step.lost)), \(Figure.percent(step.lost, of: step.sent))")
            } else if step.isGeneratorLimited {
                verdict = style.warning("this machine could not send so much")
            } else if step.isQueued {
                verdict = style.bad("packets piled up")
            } else {
                verdict = style.bad("the connections took \(Figure.percent(step.sent, of: step.due))")
            }
            let time = step.latency.percentile(50).map { Figure.time(nanoseconds: $0) } ?? ""
            return "  \(Figure.perSecond(step.rate).padded(to: 12))  \(time.padded(to: 8))  \(verdict)"
        }
    }

    private func stepLines(_ step: Step, _ style: Style) -> [String] {
        let rate = step.seconds > 0 ? Double(step.received) / step.seconds : 0
        let lost = "\(Figure.count(step.lost)), \(Figure.percent(step.lost, of: step.sent))"
        var lines = [
            Self.row("asked", "\(Figure.perSecond(step.rate)) of \(plan.packetBytes) bytes for \(Self.seconds(step))"),
            Self.row("sent", Figure.count(step.sent, "packet")),
            Self.row("received", Figure.count(step.received, "packet")),
            Self.row("lost", step.lost == 0 ? style.good("0") : style.bad(lost)),
        ]
        if step.held > 0 {
            lines.append(Self.row("held back", "\(Figure.count(step.held, "packet")): connections took no more"))
        }
        if step.skipped > 0 {
            lines.append(Self.row("skipped", "\(Figure.count(step.skipped, "packet")): this machine was late"))
        }
        if step.reordered > 0 { lines.append(Self.row("out of order", Figure.count(step.reordered, "packet"))) }
        if step.duplicates > 0 { lines.append(Self.row("twice", Figure.count(step.duplicates, "packet"))) }
        let bits = Figure.bitsPerSecond(rate * Double(plan.packetBytes) * 8)
        lines.append(Self.row("throughput", "\(Figure.perSecond(rate)), \(bits) of data"))
        if let times = Self.times(step.latency) { lines.append(Self.row("round trip", times)) }
        return lines
    }

    private static func seconds(_ step: Step) -> String { String(format: "%.1f s", step.seconds) }

    private static func times(_ latency: LatencyHistogram) -> String? {
        guard let half = latency.percentile(50), let ninety = latency.percentile(90),
            let most = latency.percentile(99), let nearlyAll = latency.percentile(99.9)
        else { return nil }
        let figures = [
            ("min", latency.shortestNanoseconds), ("p50", half), ("p90", ninety), ("p99", most), ("p99.9", nearlyAll),
            ("max", latency.longestNanoseconds),
        ]
        return figures.map { "\($0) \(Figure.time(nanoseconds: $1))" }.joined(separator: "  ")
    }

    /// What to know before believing the figures.
    private var note: String? {
        // Of a search, what failed closest above the best.
        let best = leading?.rate ?? 0
        let failed = steps.filter { !$0.isClean && $0.rate > best }.min { $0.rate < $1.rate }
        guard let step = plan.rate == .search ? failed : steps.last else { return nil }
        if step.isGeneratorLimited {
            return "This machine was the limit, not the server: it could not send "
                + "\(Figure.perSecond(step.rate)). Run several of these, or on a faster machine."
        }
        if step.held > step.due / 100, step.lost == 0 {
            return "The connections took less than was asked for: the server, or the way to it, is full."
        }
        return nil
    }
}

/// Reads off outside ports how a NAT gives them out.
enum PortPattern {
    struct Sample: Equatable {
        var local: UInt16
        var mapped: UInt16
    }

    /// - Parameters:
    ///   - samples: one for each socket, in the order in which they first sent.
    ///   - others: ports that were seen besides.
    static func allocation(_ samples: [Sample], others: [UInt16]) -> Determination<NATPortAllocation> {
        guard samples.count >= Limits.allocationSamples else {
            return .undetermined(
                "only \(samples.count) of \(Limits.allocationSamples + 1) sockets had an answer in time"
            )
        }
        let preserved = samples.count { $0.local == $0.mapped }
        // Another host may have taken one port; chance gives none.
        if preserved >= samples.count - 1 { return .determined(.preserving) }
        if preserved > 0 { return .undetermined("some ports are preserved and others are not") }
        if let step = step(samples.map { Int($0.mapped) }) {
            return .determined(.sequential(step: refined(step, samples.map { Int($0.mapped) }, others.map { Int($0) })))
        }
        let ports = samples.map(\.mapped) + others
        if let lowest = ports.min(), let highest = ports.max(), Int(highest) - Int(lowest) < Limits.chunkPorts {
            // Chance does not put all of them so close in a block of hundreds; they were counted, with more of our own
            // mappings in between than the order shows.
            guard Int(highest) - Int(lowest) > Limits.sequentialDistance * samples.count else {
                return .undetermined("the ports lie close together, in no order that shows a step")
            }
            return .determined(.chunked(lowest...highest))
        }
        return .determined(.random)
    }

    /// The step by which ports were counted, if they were. Others' mappings in between make some gaps wider, and one
    /// may be a jump, where the count began again at its start.
    private static func step(_ ports: [Int]) -> Int? {
        let gaps = zip(ports, ports.dropFirst()).map { $1 - $0 }
        for sign in [1, -1] {
            let signed = gaps.map { $0 * sign }
            var near = signed.filter { (1...Limits.sequentialDistance).contains($0) }
            if near.count < max(3, gaps.count - 1) {
                // Where others make many connections, or the step is long, the gaps are wider. By chance all of them
                // have one sign and that length once in thousands of cases.
                near = signed.filter { (1...Limits.sequentialDistanceOfAll).contains($0) }
                guard near.count == gaps.count, gaps.count >= 4 else { continue }
            }
            return near.reduce(0, commonDivisor) * sign
        }
        return nil
    }

    /// Where one of our own mappings came between each two samples, the gaps are twice the step. Every port that the
    /// NAT counted to lies on its grid, so the others show what the samples have skipped.
    private static func refined(_ step: Int, _ ports: [Int], _ others: [Int]) -> Int {
        var divisor = abs(step)
        for other in others {
            guard let nearest = ports.map({ abs($0 - other) }).min(), nearest <= Limits.sequentialDistance else {
                continue
            }
            divisor = commonDivisor(divisor, nearest)
        }
        return step < 0 ? -divisor : divisor
    }

    private static func commonDivisor(_ first: Int, _ second: Int) -> Int {
        var (first, second) = (first, second)
        while second != 0 { (first, second) = (second, first % second) }
        return first
    }
}

import Foundation

// The laboratory on real kernels is built without it.
#if canImport(Testing)
    import Testing

    /// Runs `body` once for each seed. When an expectation fails, the issue says the seed and shows the last packets of
    /// every internet that the run has made. After three seeds with failures the rest is left out.
    ///
    ///     @Test func theyMeet() async {
    ///         await withSeeds(0..<100) { seed in
    ///             let internet = Internet(seed: seed) { net in … }
    ///             …
    ///             #expect(try internet.run(while: { !peer.hasMet }, atMostSeconds: 10))
    ///         }
    ///     }
    ///
    /// `LAB_SEED=n` in the environment runs that one alone and prints its packets; `LAB_PACKETS=n` says how many.
    ///
    /// - Parameter packets: how many of each internet are shown.
    package func withSeeds(
        _ seeds: Range<UInt64>,
        packets: Int = 60,
        _ body: @escaping @Sendable (UInt64) throws -> Void
    ) async {
        let environment = ProcessInfo.processInfo.environment
        let only = environment["LAB_SEED"].flatMap { UInt64($0) }
        let shown = environment["LAB_PACKETS"].flatMap { Int($0) } ?? packets
        var failures = 0
        for seed in only.map({ $0..<($0 + 1) }) ?? seeds where failures < 3 {
            let run = SeedRun(seed: seed, packets: shown)
            await run.perform { try body(seed) }
            if run.hasFailed { failures += 1 }
            if only != nil { print(run.report) }
        }
    }
#endif

/// One run, as far as its issues must know of it.
// Unchecked: a run belongs to the one task that performs it, and issues are handled on that task while `body` waits.
final class SeedRun: @unchecked Sendable {
    @TaskLocal static var current: SeedRun?

    let seed: UInt64
    var internets: [Internet] = []
    fileprivate(set) var hasFailed = false
    private let packets: Int

    init(seed: UInt64, packets: Int) {
        self.seed = seed
        self.packets = packets
    }

    var report: String {
        let logs = internets.map { "\($0.seconds) s, digest \($0.log.digest):\n\($0.log.text(last: packets))" }
        return "replay with LAB_SEED=\(seed)\n" + logs.joined(separator: "\n\n")
    }
}

#if canImport(Testing)
    extension SeedRun {
        fileprivate func perform(_ body: @escaping @Sendable () throws -> Void) async {
            let trait = IssueHandlingTrait.compactMapIssues { [self] issue in
                var issue = issue
                // The packets are shown once, and the seed with each issue.
                issue.comments.append(Comment(rawValue: hasFailed ? "replay with LAB_SEED=\(seed)" : report))
                hasFailed = true
                return issue
            }
            do {
                guard let test = Test.current else { return try SeedRun.$current.withValue(self) { try body() } }
                try await trait.provideScope(for: test, testCase: Test.Case.current) {
                    SeedRun.$current.withValue(self) {
                        do { try body() } catch { Issue.record(error) }
                    }
                }
            } catch {
                Issue.record(error, "seed \(seed)")
            }
        }
    }
#endif

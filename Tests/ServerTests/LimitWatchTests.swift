import Testing

@testable import Server

/// RE-20: a limit is told of before it refuses, and not over and over.
@Suite struct LimitWatchTests {
    private func use(_ used: Int, of limit: Int = 100, _ subject: String? = nil) -> [LimitUse] {
        [LimitUse("a limit", subject: subject, used: used, limit: limit)]
    }

    @Test func re20_aLimitIsToldOfOnceAsItPassesFourFifths() {
        var watch = LimitWatch()
        #expect(watch.news(use(79), atSeconds: 1_000).isEmpty)
        #expect(watch.news(use(80), atSeconds: 1_001) == use(80))
        for second in 1_002..<9_000 as Range<UInt64> {
            #expect(watch.news(use(second % 2 == 0 ? 100 : 60), atSeconds: second).isEmpty)
        }
        #expect(watch.news(use(49), atSeconds: 9_000).isEmpty)
        #expect(watch.news(use(90), atSeconds: 9_001) == use(90))
    }

    @Test func re20_aLimitThatSwingsIsToldOfOnceAMinute() {
        var watch = LimitWatch()
        let told = (0..<600 as Range<UInt64>).count { second in
            !watch.news(use(second % 2 == 0 ? 100 : 0), atSeconds: 50_000 + second).isEmpty
        }
        #expect(told == 10)
    }

    @Test func re20_usersShareALineAMinute() {
        var watch = LimitWatch()
        let told = (0..<600 as Range<UInt64>).reduce(0) { sum, second in
            sum + watch.news(use(9, of: 10, "a\(second)") + use(10, of: 10, "b\(second)"), atSeconds: 7 + second).count
        }
        #expect(told == 10)
    }

    @Test func re20_noLimitIsNeverReached() {
        var watch = LimitWatch()
        #expect(watch.news(use(.max, of: 0), atSeconds: 0).isEmpty)
        #expect(watch.news(use(.max, of: .max), atSeconds: 0).count == 1)
        #expect(watch.news([LimitUse("one", used: 0, limit: 1)], atSeconds: 0).isEmpty)
    }

    @Test func re18_hashesThatAnybodyCanComputeAreRefused() throws {
        try HashSeeding.requireRandom(["PATH": "/usr/bin"])
        for value in ["1", "true", "0", ""] {
            #expect(throws: ServerError.self) { try HashSeeding.requireRandom([HashSeeding.variable: value]) }
        }
    }
}

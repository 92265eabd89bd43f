import Accounts
import Foundation
import GRDB
import Testing

@Suite struct UsageTests {
    private let november = UsageMonth("2026-11")
    private let december = UsageMonth("2026-12")

    private func usage(_ toPeers: Int64, _ toClients: Int64 = 0) -> Usage {
        Usage(bytesToPeers: toPeers, bytesToClients: toClients, packetsToPeers: 1, packetsToClients: 2)
    }

    @Test func additionsAddUpByUserAndMonth() throws {
        let store = try Scratch().open()
        let (november, december) = (try #require(november), try #require(december))
        try store.addUsage(["alice": usage(10, 1), "bob": usage(5)], month: november)
        try store.addUsage(["alice": usage(20, 2)], month: november)
        try store.addUsage(["alice": usage(7)], month: december)
        let alice = try store.usage(of: "alice")
        #expect(alice.map(\.month) == [december, november])
        #expect(
            alice.last?.usage
                == Usage(bytesToPeers: 30, bytesToClients: 3, packetsToPeers: 2, packetsToClients: 4)
        )
        #expect(alice.last?.usage.bytes == 33)
        #expect(try store.usage(in: november).map(\.user) == ["alice", "bob"])
        #expect(try store.usage(in: december).map(\.usage.bytes) == [7])
        #expect(try store.usage(of: "nobody").isEmpty)
    }

    @Test func usageSurvivesTheStoreThatWroteIt() throws {
        let scratch = Scratch()
        let november = try #require(november)
        try scratch.open().addUsage(["alice": usage(10)], month: november)
        #expect(try scratch.open(.readOnly).usage(of: "alice").map(\.usage.bytes) == [10])
    }

    @Test func aMonthlyLimitIsHeldAgainstBothDirectionsOfTheMonth() throws {
        let store = try Scratch().open()
        let (november, december) = (try #require(november), try #require(december))
        try store.addUser(AccountName("alice"), realm: Realm("turnpike"), keys: .sample(1), monthlyBytes: 100)
        try store.addUser(AccountName("bob"), realm: Realm("turnpike"), keys: .sample(2))
        #expect(try store.quotaState(of: "alice", month: november)?.usedBytes == 0)
        let below = try store.addUsage(["alice": usage(60, 39), "bob": usage(1_000), "eve": usage(1)], month: november)
        #expect(below == [QuotaState(user: "alice", usedBytes: 99, monthlyBytes: 100)])
        #expect(below.first?.isUsedUp == false)
        #expect(try store.addUsage(["alice": usage(0, 1)], month: november).first?.isUsedUp == true)
        #expect(try store.quotaState(of: "alice", month: november)?.isUsedUp == true)
        // The month rolls over, and the count begins anew.
        #expect(try store.quotaState(of: "alice", month: december)?.usedBytes == 0)
        #expect(try store.addUsage(["alice": usage(99)], month: december).first?.isUsedUp == false)
        #expect(try store.quotaState(of: "bob", month: november) == nil)
        #expect(try store.quotaState(of: "eve", month: november) == nil)
    }

    @Test func aRemovedUsersMonthsAreKeptAndPrunedWhenTheyAreOld() throws {
        let store = try Scratch().open()
        try store.add("alice", seed: 1)
        try store.add("bob", seed: 2)
        for month in ["2025-09", "2025-10", "2026-10", "2026-11"] {
            try store.addUsage(["alice": usage(1), "bob": usage(1)], month: #require(UsageMonth(month)))
        }
        try store.removeUser(AccountName("alice"))
        #expect(try store.usage(of: "alice").count == 4)
        try store.pruneUsage(now: #require(november))
        for name in ["alice", "bob"] {
            #expect(try store.usage(of: name).map(\.month.description) == ["2026-11", "2026-10", "2025-10"])
        }
    }

    @Test func usageIsNoChangeThatAServerFollows() throws {
        let store = try Scratch().open()
        try store.add("alice", seed: 1)
        var follower = try AccountFollower(store)
        try store.addUsage(["alice": usage(1)], month: #require(november))
        #expect(try follower.poll() == .none)
    }

    @Test func namesOfTimeLimitedCredentialsCannotWriteOnAnothersAccount() throws {
        let store = try Scratch().open()
        let november = try #require(november)
        let odd = ["alice\0x", "alice ", "Alice", "a'; DROP TABLE usage; --", String(repeating: "x", count: 500)]
        try store.addUsage(["alice": usage(1)], month: november)
        for name in odd { try store.addUsage([name: usage(1_000)], month: november) }
        #expect(try store.usage(of: "alice").map(\.usage.bytes) == [1])
        #expect(try store.usage(in: november).count == odd.count + 1)
        #expect(try store.usage(of: "alice\0x").map(\.usage.bytes) == [1_000])
    }

    @Test func countsThatCannotBeAddedDoNotStopTheOthers() throws {
        let scratch = Scratch()
        let store = try scratch.open()
        let november = try #require(november)
        try store.addUsage(["alice": usage(.max, .max), "bob": usage(-5)], month: november)
        try scratch.raw().write { try $0.execute(sql: "UPDATE usage SET packets_to_peers = 9223372036854775807") }
        for _ in 0..<3 { try store.addUsage(["alice": usage(.max, .max), "bob": usage(1)], month: november) }
        #expect(try store.usage(of: "bob").map(\.usage.bytes) == [3])
        #expect(try store.usage(of: "alice").map(\.usage.bytes) == [.max])
    }

    @Test func limitsOutOfRangeAreRefused() throws {
        let store = try Scratch().open()
        func add(_ maxBitsPerSecond: Int64?, _ monthlyBytes: Int64?) -> AccountError.Code? {
            accountError {
                try store.addUser(
                    AccountName("alice"),
                    realm: Realm("turnpike"),
                    keys: .sample(1),
                    maxBitsPerSecond: maxBitsPerSecond,
                    monthlyBytes: monthlyBytes
                )
            }?.code
        }
        for (rate, bytes) in [(-1, nil), (.max, nil), (nil, 0), (nil, -1), (nil, .max)] as [(Int64?, Int64?)] {
            #expect(add(rate, bytes) == .invalidValue)
        }
        #expect(add(0, 1) == nil)
        let user = try store.user(AccountName("alice"))
        #expect(user.maxBitsPerSecond == 0 && user.monthlyBytes == 1)
        let record = try store.credentialRecord(username: "alice")
        #expect(record?.maxBitsPerSecond == 0 && record?.monthlyBytes == 1)
    }
}

/// Months of UTC, held against the calendar of the C library.
@Suite struct UsageMonthTests {
    private func expected(_ seconds: Int64) -> String {
        var time = time_t(seconds)
        var parts = tm()
        gmtime_r(&time, &parts)
        let year = String(parts.tm_year + 1900)
        let month = String(parts.tm_mon + 1)
        return String(repeating: "0", count: 4 - year.count) + year + (month.count == 1 ? "-0" : "-") + month
    }

    @Test func everyDayOfElevenCenturiesLiesInItsMonth() {
        for day in (-135_140 as Int64)..<270_000 {
            let seconds = day * 86_400
            let month = UsageMonth(containingSeconds: seconds)
            guard month.description == expected(seconds) else {
                Issue.record("\(seconds): \(month), not \(expected(seconds))")
                return
            }
        }
    }

    @Test func aMonthEndsWithItsLastSecond() {
        var month = UsageMonth(containingSeconds: 0)
        for _ in 0..<1_200 {
            let next = month.next
            #expect(UsageMonth(containingSeconds: next.startSeconds) == next)
            #expect(UsageMonth(containingSeconds: next.startSeconds - 1) == month)
            #expect(next.earlier(by: 1) == month && month < next)
            #expect(UsageMonth(next.description) == next)
            month = next
        }
        #expect(month.description == "2070-01")
    }

    @Test func momentsBeyondTheCalendarAreItsEnds() {
        #expect(UsageMonth(containingSeconds: .min).description == "0000-01")
        #expect(UsageMonth(containingSeconds: .max).description == "9999-12")
        #expect(UsageMonth(containingSeconds: .min).earlier(by: 13).description == "0000-01")
    }

    @Test func whatIsNoMonthIsRefused() {
        for text in [
            "", "2026", "2026-1", "2026-13", "2026-00", "2026-11-", "202a-11", "2026/11", "+026-11", "२०२६-११",
        ] {
            #expect(UsageMonth(text) == nil, "\(text)")
        }
    }
}

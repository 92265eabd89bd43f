import LinuxIO
import TestSupport
import Testing

@Suite struct TimerWheelTests {
    private func popAll(_ wheel: inout TimerWheel, _ now: UInt64) -> Set<UInt32> {
        var all: Set<UInt32> = []
        while let id = wheel.popExpired(nowSecond: now) {
            #expect(all.insert(id).inserted)
        }
        return all
    }

    @Test func deadlineExpiresInItsSecondAndOnce() {
        var wheel = TimerWheel(nowSecond: 1_000)
        wheel.schedule(7, atSecond: 1_010)
        #expect(popAll(&wheel, 1_009) == [])
        check(wheel.isScheduled(7))
        #expect(popAll(&wheel, 1_010) == [7])
        check(!wheel.isScheduled(7))
        #expect(popAll(&wheel, 9_999) == [])
    }

    @Test func reschedulingMovesTheDeadline() {
        var wheel = TimerWheel(nowSecond: 0)
        wheel.schedule(1, atSecond: 5)
        wheel.schedule(1, atSecond: 9)
        #expect(wheel.count == 1)
        #expect(popAll(&wheel, 8) == [])
        wheel.schedule(1, atSecond: 20)
        wheel.schedule(1, atSecond: 10)
        #expect(popAll(&wheel, 10) == [1])
    }

    @Test func cancelledDeadlineNeverExpires() {
        var wheel = TimerWheel(nowSecond: 0)
        for id in 0..<3 as Range<UInt32> { wheel.schedule(id, atSecond: 5) }
        wheel.cancel(1)
        wheel.cancel(1)
        wheel.cancel(4_000_000_000)
        #expect(wheel.count == 2)
        #expect(popAll(&wheel, 5) == [0, 2])
    }

    @Test func expiredIDCanBeCancelledBeforeItIsFetched() {
        var wheel = TimerWheel(nowSecond: 0)
        wheel.schedule(1, atSecond: 5)
        wheel.schedule(2, atSecond: 5)
        let first = wheel.popExpired(nowSecond: 5)
        let other: UInt32 = first == 1 ? 2 : 1
        wheel.cancel(other)
        #expect(wheel.popExpired(nowSecond: 5) == nil)
        #expect(wheel.count == 0)
    }

    @Test func deadlineInThePastExpiresAtOnce() {
        var wheel = TimerWheel(nowSecond: 100)
        #expect(popAll(&wheel, 200) == [])
        wheel.schedule(3, atSecond: 150)
        wheel.schedule(4, atSecond: 200)
        #expect(popAll(&wheel, 200) == [3, 4])
    }

    @Test func deadlineBeyondOneTurnWaitsForItsTurn() {
        var wheel = TimerWheel(nowSecond: 0)
        wheel.schedule(1, atSecond: 10)
        wheel.schedule(2, atSecond: 10 + 4_096)
        wheel.schedule(3, atSecond: 10 + 3 * 4_096)
        #expect(popAll(&wheel, 10) == [1])
        #expect(popAll(&wheel, 10 + 4_095) == [])
        #expect(popAll(&wheel, 10 + 4_096) == [2])
        #expect(popAll(&wheel, 10 + 3 * 4_096) == [3])
    }

    @Test func jumpOfHoursExpiresAllThatPassed() {
        var wheel = TimerWheel(nowSecond: 0)
        for id in 0..<5_000 as Range<UInt32> { wheel.schedule(id, atSecond: UInt64(id)) }
        wheel.schedule(5_000, atSecond: 100_001)
        #expect(popAll(&wheel, 100_000) == Set(0..<5_000))
        #expect(popAll(&wheel, 100_001) == [5_000])
    }

    @Test func clockStandingStillOrGoingBackExpiresNothing() {
        var wheel = TimerWheel(nowSecond: 50)
        wheel.schedule(1, atSecond: 60)
        #expect(popAll(&wheel, 55) == [])
        #expect(popAll(&wheel, 20) == [])
        #expect(popAll(&wheel, 60) == [1])
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func wheelAgreesWithANaiveModel(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var now = UInt64.random(in: 0..<1_000_000, using: &generator)
        var wheel = TimerWheel(nowSecond: now, capacity: 1)
        var model: [UInt32: UInt64] = [:]
        for _ in 0..<20_000 {
            let id = UInt32.random(in: 0..<700, using: &generator)
            switch UInt8.random(in: 0..<10, using: &generator) {
            case 0..<5:
                // Mostly lifetimes as TURN has them, some in the past, some beyond a turn.
                let ahead = Bool.random(using: &generator) ? 3_600 : UInt64.random(in: 1...12_000, using: &generator)
                let deadline = now &+ UInt64.random(in: 0...ahead, using: &generator) &- min(now, 20)
                wheel.schedule(id, atSecond: deadline)
                model[id] = deadline
            case 5..<7:
                wheel.cancel(id)
                model[id] = nil
            default:
                let jump = UInt8.random(in: 0..<50, using: &generator) == 0
                now += UInt64.random(in: 0...(jump ? 20_000 : 30), using: &generator)
                let expected = Set(model.filter { $0.value <= now }.keys)
                #expect(popAll(&wheel, now) == expected, "seed \(seed), second \(now)")
                for id in expected { model[id] = nil }
            }
            #expect(wheel.count == model.count, "seed \(seed)")
            #expect(wheel.isScheduled(id) == (model[id] != nil), "seed \(seed)")
        }
    }
}

/// Deadlines of one-second precision for things numbered densely from 0, at constant cost.
///
/// Each of 4,096 slots is a doubly linked list of the ids whose deadline falls on its second, modulo the turn. The
/// links lie in arrays indexed by id. Lifetimes are at most 3,600 s (RFC 8656 section 7.2), so a list rarely holds an
/// id of a later turn; one that does stays until its turn comes. When a second has passed, its ids move to a list of
/// their own, which `popExpired` empties.
package struct TimerWheel: ~Copyable {
    private struct Entry: BitwiseCopyable {
        var deadlineSecond: UInt64
        var previous: UInt32
        var next: UInt32
        /// The list it is in, or `TimerWheel.noList`.
        var list: UInt32
    }

    private static var slotCount: Int { 4_096 }
    /// The list of ids that have expired and were not fetched yet.
    private static var dueList: Int { slotCount }
    private static var noList: UInt32 { UInt32.max }
    private static var noID: UInt32 { UInt32.max }

    /// Ids scheduled, expired ones included until they are fetched.
    package private(set) var count = 0

    private var entries: UnsafeMutablePointer<Entry>
    private var entryCapacity: Int
    private let heads: UnsafeMutablePointer<UInt32>
    /// The first second whose slot was not emptied yet.
    private var cursorSecond: UInt64

    /// - Parameters:
    ///   - nowSecond: The present, on the clock that all deadlines use.
    ///   - capacity: Ids to make room for at once; more are made room for as they come.
    package init(nowSecond: UInt64, capacity: Int = 64) {
        cursorSecond = nowSecond
        heads = .allocate(capacity: TimerWheel.slotCount + 1)
        heads.initialize(repeating: TimerWheel.noID, count: TimerWheel.slotCount + 1)
        entryCapacity = max(capacity, 1)
        entries = .allocate(capacity: entryCapacity)
        entries.initialize(repeating: TimerWheel.idle, count: entryCapacity)
    }

    /// Sets the deadline of `id`, in place of one set before. A second that has passed already expires at once.
    ///
    /// - Parameter id: A dense index: the arrays grow to hold the highest. `UInt32.max` is no id and is ignored.
    package mutating func schedule(_ id: UInt32, atSecond second: UInt64) {
        guard id != TimerWheel.noID else { return }
        if Int(id) >= entryCapacity { grow(toHold: Int(id)) }
        if entries[Int(id)].list == TimerWheel.noList {
            count &+= 1
        } else {
            unlink(id)
        }
        entries[Int(id)].deadlineSecond = second
        link(id, into: second < cursorSecond ? TimerWheel.dueList : TimerWheel.slot(of: second))
    }

    /// Forgets the deadline of `id`, if it has one.
    package mutating func cancel(_ id: UInt32) {
        guard isScheduled(id) else { return }
        unlink(id)
        count &-= 1
    }

    package func isScheduled(_ id: UInt32) -> Bool {
        Int(id) < entryCapacity && entries[Int(id)].list != TimerWheel.noList
    }

    /// Takes one id whose deadline is at or before `nowSecond`; nil when there are no more. To be called until nil. The
    /// order within a second is not defined, nor that across a jump of the clock longer than the wheel.
    package mutating func popExpired(nowSecond: UInt64) -> UInt32? {
        while heads[TimerWheel.dueList] == TimerWheel.noID {
            guard cursorSecond <= nowSecond, cursorSecond != UInt64.max else { return nil }
            // After a jump longer than a turn every slot is looked at once, not once for each turn missed.
            let turn = UInt64(TimerWheel.slotCount)
            if nowSecond &- cursorSecond >= turn { cursorSecond = nowSecond &- (turn &- 1) }
            collect(slot: TimerWheel.slot(of: cursorSecond), nowSecond: nowSecond)
            cursorSecond &+= 1
        }
        let id = heads[TimerWheel.dueList]
        unlink(id)
        count &-= 1
        return id
    }

    private static var idle: Entry { Entry(deadlineSecond: 0, previous: noID, next: noID, list: noList) }

    private static func slot(of second: UInt64) -> Int {
        Int(truncatingIfNeeded: second & UInt64(slotCount - 1))
    }

    private mutating func collect(slot: Int, nowSecond: UInt64) {
        var id = heads[slot]
        while id != TimerWheel.noID {
            let next = entries[Int(id)].next
            if entries[Int(id)].deadlineSecond <= nowSecond {
                unlink(id)
                link(id, into: TimerWheel.dueList)
            }
            id = next
        }
    }

    private mutating func link(_ id: UInt32, into list: Int) {
        let first = heads[list]
        entries[Int(id)].previous = TimerWheel.noID
        entries[Int(id)].next = first
        entries[Int(id)].list = UInt32(truncatingIfNeeded: list)
        if first != TimerWheel.noID { entries[Int(first)].previous = id }
        heads[list] = id
    }

    private mutating func unlink(_ id: UInt32) {
        let entry = entries[Int(id)]
        if entry.previous == TimerWheel.noID {
            heads[Int(entry.list)] = entry.next
        } else {
            entries[Int(entry.previous)].next = entry.next
        }
        if entry.next != TimerWheel.noID { entries[Int(entry.next)].previous = entry.previous }
        entries[Int(id)].list = TimerWheel.noList
    }

    private mutating func grow(toHold id: Int) {
        var capacity = entryCapacity
        while capacity <= id { capacity *= 2 }
        let grown = UnsafeMutablePointer<Entry>.allocate(capacity: capacity)
        grown.moveInitialize(from: entries, count: entryCapacity)
        (grown + entryCapacity).initialize(repeating: TimerWheel.idle, count: capacity - entryCapacity)
        entries.deallocate()
        entries = grown
        entryCapacity = capacity
    }

    deinit {
        entries.deallocate()
        heads.deallocate()
    }
}

import TestSupport

/// Virtual time. Events run in the order of their times, and those of one time in the order in which they were asked
/// for, so a run depends on nothing but its input.
package final class Scheduler {
    /// Where time begins: at 1,000 s and not at 0, so that a machine may subtract from it.
    package static let start: UInt64 = 1_000_000_000_000
    /// Monotonic nanoseconds.
    package private(set) var now = Scheduler.start
    /// How many events have run.
    package private(set) var eventCount: UInt64 = 0

    private struct Entry {
        var time: UInt64
        var order: UInt64
        var action: () -> Void

        func isBefore(_ other: Entry) -> Bool { time != other.time ? time < other.time : order < other.order }
    }

    /// A binary heap; the earliest stands first.
    private var heap: [Entry] = []
    private var lastOrder: UInt64 = 0

    package init() {}

    /// When the next event runs; nil when none waits.
    package var nextTime: UInt64? { heap.first?.time }

    /// How many events wait.
    package var waitingCount: Int { heap.count }

    /// - Parameter time: what has passed already means at once, behind what else is due.
    package func at(_ time: UInt64, _ action: @escaping () -> Void) {
        lastOrder += 1
        heap.append(Entry(time: max(time, now), order: lastOrder, action: action))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].isBefore(heap[parent]) else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    package func after(nanoseconds: UInt64, _ action: @escaping () -> Void) { at(now &+ nanoseconds, action) }

    package func after(seconds: Double, _ action: @escaping () -> Void) {
        after(nanoseconds: nanoseconds(seconds), action)
    }

    /// Runs the next event.
    /// - Parameter end: no event later than this is run.
    /// - Returns: false when there was none.
    func step(until end: UInt64) -> Bool {
        guard let first = heap.first, first.time <= end else { return false }
        removeFirst()
        now = first.time
        // Libraries of C that the event calls have the same time.
        VirtualClock.set(nanoseconds: now)
        eventCount += 1
        first.action()
        return true
    }

    /// Lets the rest of the time pass in which nothing happens.
    func skip(to time: UInt64) { now = max(now, time) }

    private func removeFirst() {
        let last = heap.removeLast()
        guard !heap.isEmpty else { return }
        heap[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count {
                if heap[child].isBefore(heap[least]) { least = child }
            }
            if least == parent { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}

/// So many nanoseconds; negative time is none.
package func nanoseconds(_ seconds: Double) -> UInt64 { UInt64((max(0, seconds) * 1e9).rounded()) }

/// A timer that is set again and again. However often it is, at most one event waits for each of its times.
package final class Alarm {
    private unowned let scheduler: Scheduler
    private let action: () -> Void
    /// When it goes off; nil when it does not.
    package private(set) var time: UInt64?
    private var eventTimes: [UInt64] = []

    package init(_ scheduler: Scheduler, _ action: @escaping () -> Void) {
        self.scheduler = scheduler
        self.action = action
    }

    /// Replaces the time that was set before.
    package func set(_ time: UInt64?) {
        self.time = time
        guard let time else { return }
        // An event that comes no later looks again when it comes.
        if let earliest = eventTimes.last, earliest <= time { return }
        eventTimes.append(time)
        scheduler.at(time) { [weak self] in self?.wake() }
    }

    private func wake() {
        _ = eventTimes.popLast()
        guard let time else { return }
        if time <= scheduler.now {
            self.time = nil
            action()
        } else {
            set(time)
        }
    }
}

/// Something that wants to be looked at when its time has come. It stands in at most one place of one queue.
class Alarmed {
    fileprivate(set) var alarmAt: UInt64 = .max
    fileprivate var place = -1
    fileprivate var order: UInt64 = 0
}

/// Alarms by time, the earliest first: a binary heap whose members know their places, so that setting, moving and
/// taking one back cost a logarithm and leave nothing behind.
struct AlarmQueue {
    private var heap: [Alarmed] = []
    private var order: UInt64 = 0

    var count: Int { heap.count }

    /// Monotonic nanoseconds; `nil` where nothing waits.
    var earliest: UInt64? { heap.first?.alarmAt }

    /// Sets the alarm, or takes it back where the time is `nil`.
    mutating func set(_ item: Alarmed, at time: UInt64?) {
        guard let time, time < .max else { return remove(item) }
        if item.place < 0 {
            item.place = heap.count
            heap.append(item)
        } else if item.alarmAt == time {
            return
        }
        order &+= 1
        item.order = order
        item.alarmAt = time
        rise(item.place)
        sink(item.place)
    }

    mutating func remove(_ item: Alarmed) {
        let place = item.place
        guard place >= 0, let last = heap.popLast() else { return }
        item.place = -1
        item.alarmAt = .max
        guard last !== item else { return }
        heap[place] = last
        last.place = place
        rise(place)
        sink(last.place)
    }

    /// The next one whose time has come; it is out of the queue then.
    mutating func popDue(_ now: UInt64) -> Alarmed? {
        guard let first = heap.first, first.alarmAt <= now else { return nil }
        remove(first)
        return first
    }

    private func isBefore(_ one: Alarmed, _ other: Alarmed) -> Bool {
        one.alarmAt == other.alarmAt ? one.order < other.order : one.alarmAt < other.alarmAt
    }

    private mutating func swap(_ one: Int, _ other: Int) {
        heap.swapAt(one, other)
        heap[one].place = one
        heap[other].place = other
    }

    private mutating func rise(_ start: Int) {
        var place = start
        while place > 0 {
            let parent = (place &- 1) / 2
            guard isBefore(heap[place], heap[parent]) else { return }
            swap(place, parent)
            place = parent
        }
    }

    private mutating func sink(_ start: Int) {
        var place = start
        while true {
            var first = place
            for child in (2 &* place &+ 1)...(2 &* place &+ 2)
            where child < heap.count && isBefore(heap[child], heap[first]) {
                first = child
            }
            if first == place { return }
            swap(place, first)
            place = first
        }
    }
}

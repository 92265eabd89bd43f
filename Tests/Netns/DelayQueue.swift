/// Packets under way, by the time of their arrival; a heap over a slab, so that nothing is allocated for a packet.
struct DelayQueue: ~Copyable {
    private struct Entry {
        var arrival: UInt64
        /// Packets that arrive at one time stay in order.
        var number: UInt64
        var slot: Int32
        var count: Int32

        static func < (one: Entry, other: Entry) -> Bool {
            one.arrival != other.arrival ? one.arrival < other.arrival : one.number < other.number
        }
    }

    /// The longest packet, a TAP's header included.
    static let slotBytes = 2_048
    /// 500 Mbit/s of packets of 1,200 bytes for 300 ms. Memory that is not used is not resident.
    static let capacity = 16_384

    private let slab: UnsafeMutableRawPointer
    private let heap: UnsafeMutablePointer<Entry>
    private let free: UnsafeMutablePointer<Int32>
    private var freeCount = DelayQueue.capacity
    private(set) var count = 0
    private var number: UInt64 = 0

    init() {
        slab = .allocate(byteCount: Self.slotBytes * Self.capacity, alignment: 64)
        heap = .allocate(capacity: Self.capacity)
        free = .allocate(capacity: Self.capacity)
        for slot in 0..<Self.capacity { free[slot] = Int32(Self.capacity - 1 - slot) }
    }

    /// Where the next packet is to be read to; nil where all room is taken.
    var room: UnsafeMutableRawPointer? {
        freeCount > 0 ? slab + Int(free[freeCount - 1]) * Self.slotBytes : nil
    }

    /// When the first is due; nil where nothing is under way.
    var nextArrival: UInt64? { count > 0 ? heap[0].arrival : nil }

    /// Takes in the packet that was read to `room`.
    mutating func push(count byteCount: Int, arrival: UInt64) {
        freeCount -= 1
        insert(slot: free[freeCount], byteCount, arrival)
    }

    /// Takes in a copy of it. It is lost where there is no room.
    mutating func pushCopy(of bytes: UnsafeRawPointer, count byteCount: Int, arrival: UInt64) {
        guard let room, byteCount <= Self.slotBytes else { return }
        room.copyMemory(from: bytes, byteCount: byteCount)
        push(count: byteCount, arrival: arrival)
    }

    /// Takes out the first that is due.
    /// - Returns: its bytes, which are valid until the next push; nil where nothing is due.
    mutating func pop(now: UInt64) -> (bytes: UnsafeMutableRawPointer, count: Int, arrival: UInt64)? {
        guard count > 0, heap[0].arrival <= now else { return nil }
        let first = heap[0]
        count -= 1
        if count > 0 { sink(heap[count]) }
        free[freeCount] = first.slot
        freeCount += 1
        return (slab + Int(first.slot) * Self.slotBytes, Int(first.count), first.arrival)
    }

    mutating func removeAll() { while pop(now: .max) != nil {} }

    private mutating func insert(slot: Int32, _ byteCount: Int, _ arrival: UInt64) {
        let entry = Entry(arrival: arrival, number: number, slot: slot, count: Int32(truncatingIfNeeded: byteCount))
        number &+= 1
        var index = count
        count += 1
        while index > 0, entry < heap[(index - 1) / 2] {
            heap[index] = heap[(index - 1) / 2]
            index = (index - 1) / 2
        }
        heap[index] = entry
    }

    private mutating func sink(_ entry: Entry) {
        var index = 0
        while true {
            var child = 2 * index + 1
            guard child < count else { break }
            if child + 1 < count, heap[child + 1] < heap[child] { child += 1 }
            guard heap[child] < entry else { break }
            heap[index] = heap[child]
            index = child
        }
        heap[index] = entry
    }

    deinit {
        slab.deallocate()
        heap.deallocate()
        free.deallocate()
    }
}

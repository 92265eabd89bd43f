/// A fixed array of records with a free list. Its capacity is address space and not memory: a page becomes resident
/// when its first record is used. Records never move, so a pointer to one is good until the record is freed.
package struct Slab<Record: BitwiseCopyable>: ~Copyable {
    package let capacity: Int
    package private(set) var count = 0
    /// Records with an index below this have been used at least once.
    package private(set) var everUsed = 0
    private let records: UnsafeMutablePointer<Record>
    private let nextFree: UnsafeMutablePointer<UInt32>
    private var firstFree = UInt32.max

    package init(capacity: Int) {
        self.capacity = capacity
        records = .allocate(capacity: capacity)
        nextFree = .allocate(capacity: capacity)
    }

    deinit {
        records.deallocate()
        nextFree.deallocate()
    }

    @inline(__always)
    package subscript(index: UInt32) -> UnsafeMutablePointer<Record> { records + Int(index) }

    /// - Returns: the new record's index, or nil when the slab is full.
    package mutating func insert(_ record: Record) -> UInt32? {
        let index: UInt32
        if firstFree != .max {
            index = firstFree
            firstFree = nextFree[Int(index)]
        } else {
            guard everUsed < capacity else { return nil }
            index = UInt32(everUsed)
            everUsed += 1
        }
        records[Int(index)] = record
        count += 1
        return index
    }

    package mutating func remove(_ index: UInt32) {
        nextFree[Int(index)] = firstFree
        firstFree = index
        count -= 1
    }
}

/// Bytes that wait, in one piece of memory that grows as needed and is given back when it is empty and large: ten
/// thousand idle sessions must not each keep the buffer of their busiest moment.
struct ByteQueue {
    private(set) var count = 0
    private var base: UnsafeMutableRawPointer?
    private var capacity = 0
    private var start = 0

    /// What waits, oldest first. Valid until the queue changes.
    var bytes: UnsafeRawBufferPointer {
        guard let base, count > 0 else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(start: base + start, count: count)
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return }
        let target = reserve(bytes.count)
        target.copyMemory(from: source, byteCount: bytes.count)
        count += bytes.count
    }

    /// Appends the bytes behind their length in two bytes, so that `firstDatagram` gives them back as they came.
    mutating func appendDatagram(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, bytes.count > 0, let length = UInt16(exactly: bytes.count) else { return }
        let target = reserve(bytes.count + Self.lengthBytes)
        target.storeBytes(of: length, as: UInt16.self)
        (target + Self.lengthBytes).copyMemory(from: source, byteCount: bytes.count)
        count += bytes.count + Self.lengthBytes
    }

    /// The oldest datagram; nil where none waits. Valid until the queue changes.
    var firstDatagram: UnsafeRawBufferPointer? {
        let waiting = bytes
        guard waiting.count > Self.lengthBytes else { return nil }
        let length = Int(waiting.loadUnaligned(as: UInt16.self))
        guard length <= waiting.count - Self.lengthBytes else { return nil }
        return UnsafeRawBufferPointer(rebasing: waiting[Self.lengthBytes..<(Self.lengthBytes + length)])
    }

    mutating func removeFirstDatagram() {
        guard let first = firstDatagram else { return }
        remove(first.count + Self.lengthBytes)
    }

    mutating func remove(_ byteCount: Int) {
        let removed = min(max(byteCount, 0), count)
        count -= removed
        start = count == 0 ? 0 : start + removed
        if count == 0, capacity > Self.keptBytes { free() }
    }

    /// Gives the memory back. The queue may be used again.
    mutating func free() {
        base?.deallocate()
        base = nil
        (count, capacity, start) = (0, 0, 0)
    }

    private static let lengthBytes = 2
    /// Enough for a relayed packet in its record, so that steady traffic of those allocates nothing.
    private static let keptBytes = 2_048

    /// Room for `byteCount` more, and where they go.
    private mutating func reserve(_ byteCount: Int) -> UnsafeMutableRawPointer {
        if let base, start + count + byteCount <= capacity { return base + start + count }
        if let base, count + byteCount <= capacity {
            base.copyMemory(from: base + start, byteCount: count)
            start = 0
            return base + count
        }
        var grown = max(capacity, Self.keptBytes)
        while grown < count + byteCount { grown *= 2 }
        let moved = UnsafeMutableRawPointer.allocate(byteCount: grown, alignment: 8)
        if let base, count > 0 { moved.copyMemory(from: base + start, byteCount: count) }
        base?.deallocate()
        base = moved
        capacity = grown
        start = 0
        return moved + count
    }
}

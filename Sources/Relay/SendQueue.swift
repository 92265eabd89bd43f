import LinuxIO

/// What one stream connection has still to send: bounded, and without memory while nothing waits.
///
/// A ring, so that a queue that stays nearly full costs no moving of bytes: each is copied once, and none that the
/// kernel takes at once.
package struct SendQueue: ~Copyable {
    /// What became of bytes given to `send`.
    package enum Acceptance: Equatable, Sendable {
        /// The kernel has all.
        case written
        /// All will be sent, but some waits for `flush`: the descriptor is to be watched for writability.
        case queued
        /// Nothing was taken, for the queue has no room for all.
        case full
        /// The connection is broken, with this errno, positive. Nothing more can be sent on it.
        case failed(Int32)
    }

    package enum Progress: Equatable, Sendable {
        /// Nothing waits.
        case drained
        /// The kernel takes no more for now.
        case blocked
        /// As `Acceptance.failed`.
        case failed(Int32)
    }

    /// The most bytes that may wait. A power of two.
    package static let limitBytes = 262_144
    private static let smallestCapacity = 4_096

    /// Bytes that wait.
    package private(set) var count = 0
    /// Memory owned at the moment.
    package private(set) var capacity = 0

    private var storage: UnsafeMutableRawPointer?
    /// Where the first byte that waits lies.
    private var head = 0

    package init() {}

    package var isEmpty: Bool { count == 0 }

    /// Sends the parts, one behind the other: by one system call when nothing waits before them, else behind that.
    ///
    /// All or nothing: a frame is never cut, or the client could not find the next one.
    package mutating func send(_ parts: UnsafeBufferPointer<UnsafeRawBufferPointer>, on fd: Int32) -> Acceptance {
        let total = SendQueue.byteCount(parts)
        guard total <= SendQueue.limitBytes &- count else { return .full }
        guard isEmpty else {
            append(parts, skipping: 0, total: total)
            return .queued
        }
        let sent = TCPSocket.send(fd, parts: parts)
        if sent < 0 && sent != Int(0 &- Errno.tryAgain) { return .failed(Int32(truncatingIfNeeded: 0 &- sent)) }
        let written = max(sent, 0)
        guard written < total else { return .written }
        append(parts, skipping: written, total: total &- written)
        return .queued
    }

    /// `send` of a frame in one piece.
    package mutating func send(_ bytes: UnsafeRawBufferPointer, on fd: Int32) -> Acceptance {
        withUnsafePointer(to: bytes) { send(UnsafeBufferPointer(start: $0, count: 1), on: fd) }
    }

    /// Puts the parts behind what waits, without trying to send.
    ///
    /// - Returns: False when there is no room for all; then none was taken.
    package mutating func enqueue(_ parts: UnsafeBufferPointer<UnsafeRawBufferPointer>) -> Bool {
        let total = SendQueue.byteCount(parts)
        guard total <= SendQueue.limitBytes &- count else { return false }
        append(parts, skipping: 0, total: total)
        return true
    }

    /// Sends what waits, until it is gone or the kernel takes no more.
    package mutating func flush(_ fd: Int32) -> Progress {
        while count > 0, let storage {
            let toEnd = min(count, capacity &- head)
            let first = UnsafeRawBufferPointer(start: storage + head, count: toEnd)
            let second = UnsafeRawBufferPointer(start: storage, count: count &- toEnd)
            let sent = withUnsafeTemporaryAllocation(of: UnsafeRawBufferPointer.self, capacity: 2) { parts in
                parts.initialize(repeating: first)
                parts[1] = second
                return TCPSocket.send(fd, parts: UnsafeBufferPointer(rebasing: parts[..<(second.isEmpty ? 1 : 2)]))
            }
            if sent == Int(0 &- Errno.tryAgain) { return .blocked }
            if sent < 0 { return .failed(Int32(truncatingIfNeeded: 0 &- sent)) }
            head = (head &+ sent) & (capacity &- 1)
            count &-= sent
        }
        release()
        return .drained
    }

    private static func byteCount(_ parts: UnsafeBufferPointer<UnsafeRawBufferPointer>) -> Int {
        var total = 0
        for part in parts { total &+= part.count }
        return total
    }

    /// - Parameters:
    ///   - skipped: Bytes of the parts, from their start, that have been sent.
    ///   - total: Bytes of the parts after those, for which the limit leaves room.
    private mutating func append(
        _ parts: UnsafeBufferPointer<UnsafeRawBufferPointer>,
        skipping skipped: Int,
        total: Int
    ) {
        guard total > 0 else { return }
        if count &+ total > capacity { grow(toHold: count &+ total) }
        var skipped = skipped
        for part in parts {
            let skippedHere = min(skipped, part.count)
            skipped &-= skippedHere
            append(UnsafeRawBufferPointer(rebasing: part[skippedHere...]))
        }
    }

    private mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let storage, let source = bytes.baseAddress, !bytes.isEmpty else { return }
        let tail = (head &+ count) & (capacity &- 1)
        let toEnd = min(bytes.count, capacity &- tail)
        (storage + tail).copyMemory(from: source, byteCount: toEnd)
        if toEnd < bytes.count { storage.copyMemory(from: source + toEnd, byteCount: bytes.count &- toEnd) }
        count &+= bytes.count
    }

    /// The capacity is a power of two, so that a mask does for the remainder.
    private mutating func grow(toHold needed: Int) {
        var grownCapacity = max(capacity, SendQueue.smallestCapacity)
        while grownCapacity < needed { grownCapacity &*= 2 }
        let grown = UnsafeMutableRawPointer.allocate(byteCount: grownCapacity, alignment: 16)
        if let storage {
            let toEnd = min(count, capacity &- head)
            grown.copyMemory(from: storage + head, byteCount: toEnd)
            if toEnd < count { (grown + toEnd).copyMemory(from: storage, byteCount: count &- toEnd) }
            storage.deallocate()
        }
        storage = grown
        capacity = grownCapacity
        head = 0
    }

    private mutating func release() {
        storage?.deallocate()
        storage = nil
        capacity = 0
        head = 0
    }

    deinit {
        storage?.deallocate()
    }
}

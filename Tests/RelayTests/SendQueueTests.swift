import Glibc
import LinuxIO
import TestSupport
import Testing

@testable import Relay

@Suite struct SendQueueTests {
    @Test func whatTheKernelTakesAtOnceCostsNoMemory() throws {
        let pair = try StreamPair()
        var queue = SendQueue()
        #expect(send([[1, 2, 3], [], [4]], with: &queue, on: pair.near.raw) == .written)
        #expect(queue.capacity == 0)
        #expect(pair.readAll() == [1, 2, 3, 4])
    }

    @Test func whatTheKernelRefusesWaitsAndComesInOrder() throws {
        let pair = try StreamPair()
        var queue = SendQueue()
        var expected: [UInt8] = []
        var value: UInt8 = 0
        var wasQueued = false
        while queue.count < 100_000 {
            let frame = [UInt8](repeating: value, count: 1_001)
            value &+= 1
            let acceptance = send([Array(frame[..<500]), Array(frame[500...])], with: &queue, on: pair.near.raw)
            #expect(acceptance == (wasQueued ? .queued : acceptance))
            if acceptance == .queued { wasQueued = true }
            expected += frame
        }
        #expect(wasQueued)
        #expect(queue.flush(pair.near.raw) == .blocked)
        var received: [UInt8] = []
        var progress = SendQueue.Progress.blocked
        while progress == .blocked {
            received += pair.readAll()
            progress = queue.flush(pair.near.raw)
        }
        received += pair.readAll()
        #expect(progress == .drained)
        expectSame(received, expected)
        #expect(queue.capacity == 0)
    }

    @Test func aFrameGoesInWholeOrNotAtAll() throws {
        let pair = try StreamPair()
        try pair.fill()
        var queue = SendQueue()
        #expect(enqueue([[UInt8](repeating: 1, count: 262_000)], in: &queue))
        #expect(enqueue([[2], [UInt8](repeating: 2, count: 144)], in: &queue) == false)
        #expect(queue.count == 262_000)
        #expect(send([[2], [UInt8](repeating: 2, count: 144)], with: &queue, on: pair.near.raw) == .full)
        #expect(queue.count == 262_000)
        #expect(enqueue([[3], [UInt8](repeating: 3, count: 143)], in: &queue))
        #expect(queue.count == SendQueue.limitBytes)
        #expect(queue.capacity == SendQueue.limitBytes)
        #expect(send([[4]], with: &queue, on: pair.near.raw) == .full)
        #expect(send([], with: &queue, on: pair.near.raw) == .queued)
    }

    @Test func moreThanTheLimitIsRefusedEvenByAnEmptyQueue() throws {
        let pair = try StreamPair()
        var queue = SendQueue()
        let tooLong = [UInt8](repeating: 1, count: SendQueue.limitBytes + 1)
        #expect(send([tooLong], with: &queue, on: pair.near.raw) == .full)
        #expect(enqueue([tooLong], in: &queue) == false)
        #expect(pair.readAll() == [])
    }

    @Test func aBrokenConnectionIsAnErrorAndNoSignal() throws {
        var near: FileDescriptor
        do {
            let pair = try StreamPair()
            near = FileDescriptor(owning: dup(pair.near.raw))
        }
        var queue = SendQueue()
        #expect(send([[1]], with: &queue, on: near.raw) == .failed(EPIPE))
        #expect(enqueue([[1]], in: &queue))
        #expect(queue.flush(near.raw) == .failed(EPIPE))
    }

    @Test func manyPartsGoOutInOrder() throws {
        let pair = try StreamPair()
        var queue = SendQueue()
        let parts = (0..<200).map { [UInt8](repeating: UInt8($0), count: $0 % 4) }
        _ = send(parts, with: &queue, on: pair.near.raw)
        #expect(queue.flush(pair.near.raw) == .drained)
        #expect(pair.readAll() == parts.flatMap { $0 })
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func randomUseKeepsEveryByteInOrder(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let pair = try StreamPair()
        var queue = SendQueue()
        var accepted: [UInt8] = []
        var received: [UInt8] = []
        let source = (0..<63_000).map { _ in UInt8.random(in: 0...255, using: &generator) }
        var refusals = 0
        for round in 0..<4_000 {
            // The reader is slow and quick by turns, so that the queue fills up and runs empty.
            let longestRead = round / 500 % 2 == 0 ? 5_000 : 200_000
            switch Int.random(in: 0..<8, using: &generator) {
            case 0: received += pair.read(Int.random(in: 1...longestRead, using: &generator))
            case 1: _ = queue.flush(pair.near.raw)
            default:
                let parts = (0..<Int.random(in: 1...5, using: &generator)).map { _ in
                    let start = Int.random(in: 0..<60_000, using: &generator)
                    return Array(source[start..<(start + Int.random(in: 0...3_000, using: &generator))])
                }
                let total = parts.reduce(0) { $0 + $1.count }
                let hasRoom = total <= SendQueue.limitBytes - queue.count
                let isDirect = Bool.random(using: &generator)
                let taken =
                    isDirect
                    ? send(parts, with: &queue, on: pair.near.raw) != .full : enqueue(parts, in: &queue)
                #expect(taken == hasRoom)
                if taken { accepted += parts.flatMap { $0 } } else { refusals += 1 }
            }
        }
        while queue.flush(pair.near.raw) == .blocked { received += pair.readAll() }
        received += pair.readAll()
        expectSame(received, accepted)
        #expect(queue.capacity == 0)
        #expect(refusals > 0)
    }

    private func send(_ parts: [[UInt8]], with queue: inout SendQueue, on fd: Int32) -> SendQueue.Acceptance {
        let bytes = Parts(parts)
        return queue.send(bytes.buffer, on: fd)
    }

    private func enqueue(_ parts: [[UInt8]], in queue: inout SendQueue) -> Bool {
        let bytes = Parts(parts)
        return queue.enqueue(bytes.buffer)
    }
}

/// Says where they part, for the difference of long arrays takes the macro minutes to work out.
private func expectSame(_ found: [UInt8], _ expected: [UInt8], sourceLocation: SourceLocation = #_sourceLocation) {
    if found == expected { return }
    #expect(found.count == expected.count, sourceLocation: sourceLocation)
    let difference = zip(found, expected).enumerated().first { $0.element.0 != $0.element.1 }?.offset
    Issue.record("the bytes part at \(difference.map(String.init) ?? "the end")", sourceLocation: sourceLocation)
}

/// Parts in memory of their own, each where nothing else lies.
private struct Parts: ~Copyable {
    private let parts: UnsafeMutableBufferPointer<UnsafeRawBufferPointer>

    init(_ bytes: [[UInt8]]) {
        parts = .allocate(capacity: bytes.count)
        for (index, part) in bytes.enumerated() {
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: part.count, alignment: 1)
            memory.copyBytes(from: part)
            parts.initializeElement(at: index, to: UnsafeRawBufferPointer(memory))
        }
    }

    var buffer: UnsafeBufferPointer<UnsafeRawBufferPointer> { UnsafeBufferPointer(parts) }

    deinit {
        for part in parts { part.deallocate() }
        parts.deallocate()
    }
}

/// Two ends of a local stream, of which both are non-blocking.
private struct StreamPair: ~Copyable {
    let near: FileDescriptor
    let far: FileDescriptor

    init() throws {
        var ends: [Int32] = [0, 0]
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        try #require(socketpair(AF_UNIX, type, 0, &ends) == 0)
        near = FileDescriptor(owning: ends[0])
        far = FileDescriptor(owning: ends[1])
    }

    /// Takes up what the kernel holds for one direction.
    func fill() throws {
        let bytes = [UInt8](repeating: 0xFF, count: 65_536)
        var sent = 0
        while sent >= 0 { sent = bytes.withUnsafeBytes { TCPSocket.send(near.raw, $0) } }
        try #require(sent == Int(-Errno.tryAgain))
    }

    func read(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            initialized = max(0, TCPSocket.receive(far.raw, into: UnsafeMutableRawBufferPointer(buffer)))
        }
    }

    func readAll() -> [UInt8] {
        var all: [UInt8] = []
        while true {
            let some = read(65_536)
            if some.isEmpty { return all }
            all += some
        }
    }
}

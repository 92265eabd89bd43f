import Synchronization

/// Messages of one channel on their way from the loop to the program that reads them.
///
/// It does not refuse any: past its limit `append` says so, and whoever fills it stops reading from the peer until
/// `onRoom` is called.
final class MessageQueue: Sendable {
    private struct State {
        var messages: [Message] = []
        var taken = 0
        var bytes = 0
        var isFull = false
        var isFinished = false
        var waiting: [(number: UInt64, continuation: CheckedContinuation<Message?, Never>)] = []
        var nextNumber: UInt64 = 0
    }

    private let state = Mutex(State())
    private let onRoom: @Sendable () -> Void

    /// - Parameter onRoom: called, on any thread, when a full queue has room again.
    init(onRoom: @escaping @Sendable () -> Void) { self.onRoom = onRoom }

    /// - Returns: whether there is room for more.
    @discardableResult
    func append(_ message: Message) -> Bool {
        let (waiting, hasRoom) = state.withLock { state -> (CheckedContinuation<Message?, Never>?, Bool) in
            guard !state.isFinished else { return (nil, true) }
            if !state.waiting.isEmpty { return (state.waiting.removeFirst().continuation, true) }
            state.messages.append(message)
            state.bytes += message.bytes.count + Self.overheadBytes
            state.isFull = state.isFull || state.bytes > ClientLimits.inboundBytes
            return (nil, !state.isFull)
        }
        waiting?.resume(returning: message)
        return hasRoom
    }

    var isFull: Bool { state.withLock { $0.isFull } }

    /// Nothing follows; what is there can still be read.
    func finish() {
        let waiting = state.withLock { state in
            state.isFinished = true
            state.isFull = false
            defer { state.waiting = [] }
            return state.waiting
        }
        for waiter in waiting { waiter.continuation.resume(returning: nil) }
    }

    /// - Returns: nil at the end, and when the task was cancelled.
    func next() async -> Message? {
        let number = state.withLock { state in
            state.nextNumber &+= 1
            return state.nextNumber
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (message, isDone, hasRoomAgain) = state.withLock { state in
                    take(number, continuation, &state)
                }
                if hasRoomAgain { onRoom() }
                if isDone { continuation.resume(returning: message) }
            }
        } onCancel: {
            let waiter = state.withLock { state -> CheckedContinuation<Message?, Never>? in
                guard let index = state.waiting.firstIndex(where: { $0.number == number }) else { return nil }
                return state.waiting.remove(at: index).continuation
            }
            waiter?.resume(returning: nil)
        }
    }

    private func take(
        _ number: UInt64,
        _ continuation: CheckedContinuation<Message?, Never>,
        _ state: inout State
    ) -> (Message?, isDone: Bool, hasRoomAgain: Bool) {
        guard state.taken < state.messages.count else {
            if state.isFinished || Task.isCancelled { return (nil, true, false) }
            state.waiting.append((number, continuation))
            return (nil, false, false)
        }
        let message = state.messages[state.taken]
        state.messages[state.taken] = Message([])
        state.taken += 1
        state.bytes -= message.bytes.count + Self.overheadBytes
        if state.taken == state.messages.count || state.taken > Self.takenLimit {
            state.messages.removeFirst(state.taken)
            state.taken = 0
        }
        let hasRoomAgain = state.isFull && state.bytes <= ClientLimits.inboundBytes / 2
        if hasRoomAgain { state.isFull = false }
        return (message, true, hasRoomAgain)
    }

    /// What a message takes beside its content.
    private static let overheadBytes = 64
    private static let takenLimit = 256
}

/// A channel's messages, in the order in which the channel delivers them. Each is given to one reader.
public struct Messages: AsyncSequence, Sendable {
    /// What arrives.
    public typealias Element = Message
    /// There is no failure: a connection that breaks ends the sequence.
    public typealias Failure = Never

    let queue: MessageQueue

    /// Reads on where the last reader stopped.
    public func makeAsyncIterator() -> Iterator { Iterator(queue: queue) }

    /// Reads messages one by one.
    public struct Iterator: AsyncIteratorProtocol {
        let queue: MessageQueue

        /// The next message; `nil` once the channel is closed and all was read, and when the task was cancelled.
        public mutating func next() async -> Message? { await queue.next() }

        /// The next message; `nil` once the channel is closed and all was read, and when the task was cancelled.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> Message? { await queue.next() }
    }
}

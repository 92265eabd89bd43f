/// Who sent a direct message, so that he can be told when it never arrives.
struct Origin {
    let session: Session
    let kind: MessageKind
    /// The message's `id` as JSON; empty where it had none.
    let requestID: [UInt8]
    let recipient: String
}

/// What a session was sent since its last `welcome`, numbered from 1, for as long as it may not have arrived.
///
/// The numbers are not on the wire: both ends count. Entries are consecutive and end with the newest message; when a
/// limit is reached while the client is there the oldest are dropped, which a later `resume` reports as missed.
struct ReplayQueue {
    struct Entry {
        let bytes: [UInt8]
        let origin: Origin?
        /// Whether the message still means something later. A `pong` does not.
        let isLasting: Bool
    }

    private var entries: [Entry?] = []
    private var head = 0
    private(set) var byteCount = 0
    /// The number of the newest message.
    private(set) var sentThrough: UInt64 = 0
    /// Up to which the client has them for sure.
    private(set) var acknowledgedThrough: UInt64 = 0
    /// Up to which they have most likely arrived; what a client that does not count is taken to have.
    private(set) var deliveredThrough: UInt64 = 0
    /// The newest message of which the client's WebSocket was asked whether it arrived.
    var probedThrough: UInt64 = 0

    var retained: Int { entries.count &- head }
    /// The number of the oldest message that is still here.
    var first: UInt64 { sentThrough &- UInt64(retained) &+ 1 }

    var wantsProbe: Bool {
        guard probedThrough <= acknowledgedThrough else { return false }
        return sentThrough &- acknowledgedThrough >= SignalingLimits.probeMessages
            || byteCount >= SignalingLimits.probeBytes
    }

    /// Numbers a message and keeps it. Where there is no room the oldest go, and those only that most likely arrived if
    /// the client is away; then the limits may be passed by what one step of the hub sends.
    /// - Parameter total: bytes that all sessions keep.
    /// - Returns: false where the queue of a client that is away has grown past its limits.
    mutating func append(_ entry: Entry, isAway: Bool, total: inout Int) -> Bool {
        let size = entry.bytes.count
        while retained > 0, !hasRoom(for: size, total), !isAway || first <= deliveredThrough { dropFirst(&total) }
        let fits = hasRoom(for: size, total)
        sentThrough &+= 1
        if fits || isAway {
            entries.append(entry)
            byteCount += size
            total += size
        }
        return fits || !isAway
    }

    private func hasRoom(for size: Int, _ total: Int) -> Bool {
        retained < SignalingLimits.replayMessagesPerSession
            && byteCount + size <= SignalingLimits.replayBytesPerSession
            && total + size <= SignalingLimits.replayBytesTotal
    }

    /// The client has the messages up to this number, whatever it says beyond what was sent.
    mutating func acknowledge(through number: UInt64, total: inout Int) {
        let number = min(number, sentThrough)
        guard number > acknowledgedThrough else { return }
        acknowledgedThrough = number
        deliveredThrough = max(deliveredThrough, number)
        while retained > 0, first <= number { dropFirst(&total) }
    }

    mutating func noteDelivered(through number: UInt64) {
        deliveredThrough = max(deliveredThrough, min(number, sentThrough))
    }

    /// Ends this run of numbers. Answers the messages behind `number` that are here, and how many are not.
    mutating func restart(after number: UInt64, total: inout Int) -> (missed: UInt64, entries: [Entry]) {
        let number = min(number, sentThrough)
        let start = max(first, number &+ 1)
        let kept = entries[head...].suffix(Int(clamping: sentThrough &+ 1 &- start)).compactMap(\.self)
        let missed = start &- number &- 1
        clear(&total)
        self = ReplayQueue()
        return (missed, kept)
    }

    /// The direct messages that have most likely not arrived.
    var undelivered: [Origin] {
        entries[head...].enumerated().compactMap { offset, entry in
            first &+ UInt64(offset) > deliveredThrough ? entry?.origin : nil
        }
    }

    mutating func clear(_ total: inout Int) {
        total -= byteCount
        byteCount = 0
        entries = []
        head = 0
    }

    private mutating func dropFirst(_ total: inout Int) {
        let size = entries[head]?.bytes.count ?? 0
        entries[head] = nil
        head &+= 1
        byteCount -= size
        total -= size
        if head == entries.count {
            entries.removeAll(keepingCapacity: head <= 64)
            head = 0
        } else if head >= 64, head &* 2 >= entries.count {
            entries.removeFirst(head)
            head = 0
        }
    }
}

/// The sending half of a TCP connection: what was given to it and is not yet acknowledged.
struct StreamSender {
    /// The sequence number of SYN.
    let first: UInt64
    /// The first that is not acknowledged, and the first that was never sent.
    var unacknowledged: UInt64
    var next: UInt64
    /// Begins at `unacknowledged`.
    var buffer: [UInt8] = []
    /// The owner has ended this direction.
    var isFinished = false
    /// Nanoseconds until what was sent is sent again (RFC 6298).
    private(set) var timeout: UInt64 = 1_000_000_000

    private var isFinSent = false
    private var isFinAcknowledged = false
    private var segmentBytes: Int
    private var duplicates = 0
    /// Where a recovery from loss ends.
    private var recovery: UInt64 = 0
    private var pending: [Segment] = []
    /// A segment whose round trip is measured.
    private var probe: (end: UInt64, sentAt: UInt64)?
    private var roundTrip: Double = 0

    private static let windowBytes = 131_072

    init(first: UInt64, isIPv4: Bool) {
        self.first = first
        unacknowledged = first
        next = first
        segmentBytes = isIPv4 ? 1_460 : 1_440
    }

    /// Whether there is something that the other side has to acknowledge.
    var isWaiting: Bool { next > unacknowledged }

    var isDone: Bool { isFinAcknowledged }

    mutating func takeSegments(now: UInt64) -> [Segment] {
        var segments: [Segment] = []
        while true {
            let sent = Int(next - unacknowledged)
            let length = min(segmentBytes, buffer.count - sent, Self.windowBytes - sent)
            guard !isFinSent, length > 0 else { break }
            segments.append(Segment(flags: .ack, sequence: next, payload: Array(buffer[sent..<(sent + length)])))
            next += UInt64(length)
            if probe == nil { probe = (next, now) }
        }
        if isFinished, !isFinSent, Int(next - unacknowledged) == buffer.count {
            isFinSent = true
            segments.append(Segment(flags: [.fin, .ack], sequence: next))
            next += 1
        }
        return segments
    }

    /// - Returns: whether the other side has acknowledged something new.
    mutating func take(acknowledgement: UInt64, hasData: Bool, now: UInt64) -> Bool {
        guard acknowledgement <= next else { return false }
        guard acknowledgement > unacknowledged else {
            if acknowledgement == unacknowledged, isWaiting, !hasData { duplicates += 1 }
            if duplicates == 3, unacknowledged >= recovery {
                recovery = next
                probe = nil
                pending += firstUnacknowledged(isBlackHole: false).map { [$0] } ?? []
            }
            return false
        }
        let bytes = min(Int(acknowledgement - unacknowledged), buffer.count)
        buffer.removeFirst(bytes)
        if isFinSent, acknowledgement == next { isFinAcknowledged = true }
        unacknowledged = acknowledgement
        duplicates = 0
        if let measured = probe, acknowledgement >= measured.end {
            let sample = Double(now - measured.sentAt)
            roundTrip = roundTrip == 0 ? sample : 0.875 * roundTrip + 0.125 * sample
            timeout = max(200_000_000, nanoseconds(2 * roundTrip / 1e9))
            probe = nil
        }
        // What was lost with it is sent without waiting for the timer again (RFC 6582).
        if unacknowledged < recovery { pending += firstUnacknowledged(isBlackHole: false).map { [$0] } ?? [] }
        return true
    }

    mutating func takeRetransmissions() -> [Segment] {
        defer { pending = [] }
        return pending
    }

    /// What has waited longest, once more.
    /// - Parameter isBlackHole: whether it may be that packets of this length vanish; then it is cut shorter.
    mutating func firstUnacknowledged(isBlackHole: Bool) -> Segment? {
        guard isWaiting else { return nil }
        if isBlackHole { segmentBytes = min(segmentBytes, 536) }
        probe = nil
        recovery = max(recovery, next)
        let sent = Int(next - unacknowledged) - (isFinSent ? 1 : 0)
        let length = min(segmentBytes, sent)
        if length == 0 { return Segment(flags: [.fin, .ack], sequence: unacknowledged) }
        return Segment(flags: .ack, sequence: unacknowledged, payload: Array(buffer[..<length]))
    }

    mutating func shrink(toMTU mtu: Int, isIPv4: Bool) {
        segmentBytes = max(536, min(segmentBytes, mtu - (isIPv4 ? 40 : 60)))
    }
}

/// The receiving half: puts what comes in order.
struct StreamReceiver {
    /// The sequence number that comes next.
    var next: UInt64 = 0
    private(set) var isEnded = false
    private var early: [UInt64: Segment] = [:]

    /// - Returns: the bytes that are in order with it.
    mutating func take(_ segment: Segment) -> [UInt8] {
        guard segment.sequence + segment.length > next else { return [] }
        early[segment.sequence] = segment
        var bytes: [UInt8] = []
        while let key = early.keys.filter({ $0 <= next }).max(), let found = early.removeValue(forKey: key) {
            let end = found.sequence + found.length
            guard end > next else { continue }
            bytes += found.payload.dropFirst(Int(next - found.sequence))
            next = end
            if found.flags.contains(.fin) { isEnded = true }
        }
        return bytes
    }
}

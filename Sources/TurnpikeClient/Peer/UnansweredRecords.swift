/// The records of data that were sent since the peer was heard last.
///
/// When the path dies, all of them are lost. SCTP finds that out one after the other, by timeouts that have doubled
/// meanwhile; sent again on the next path they arrive at once. Their numbers are new to the peer, so that DTLS lets
/// them in, and whatever did arrive it passes over.
struct UnansweredRecords {
    private var bytes: [UInt8] = []
    private var ends: [Int] = []
    private var since: UInt64?

    var isFull: Bool { ends.count >= ClientLimits.unansweredRecords }

    /// The first ones count: they are what the peer waits for.
    mutating func append(_ record: UnsafeRawBufferPointer, now: UInt64) {
        if since == nil { since = now }
        guard !isFull, record.count <= ClientLimits.unansweredRecordBytes else {
            return
        }
        bytes.append(contentsOf: record)
        ends.append(bytes.count)
    }

    /// The peer was heard.
    mutating func clear() {
        guard since != nil else { return }
        since = nil
        bytes.removeAll(keepingCapacity: true)
        ends.removeAll(keepingCapacity: true)
    }

    /// Whether the path has been silent for so long that they are likely to be lost.
    func areOverdue(now: UInt64) -> Bool { since.map { now &- $0 >= ClientLimits.silence } ?? false }

    func forEach(_ body: (UnsafeRawBufferPointer) -> Void) {
        bytes.withUnsafeBytes { all in
            var start = 0
            for end in ends {
                body(UnsafeRawBufferPointer(rebasing: all[start..<end]))
                start = end
            }
        }
    }
}

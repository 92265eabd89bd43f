import Foundation

/// Where in the bytes of a connection its messages end, oldest first, until the client's TCP has acknowledged them.
///
/// Writes are whole messages and whole records of TLS. A message counts as delivered when the last byte of its last
/// record is acknowledged: before that the client cannot open it.
struct DeliveryMarks {
    private struct Mark {
        let endsAt: UInt64
        let sequence: UInt64
    }

    private var marks: [Mark] = []
    /// The number of the newest message that has arrived; 0 for none.
    private(set) var deliveredThrough: UInt64 = 0

    var isEmpty: Bool { marks.isEmpty }

    /// Whether acknowledgements may take the room that another mark needs.
    var isFull: Bool { marks.count >= GatewayLimits.deliveryMarks }

    /// Whether one of these messages ends among so many bytes.
    func isAny(within bytes: UInt64) -> Bool { marks.first.map { $0.endsAt <= bytes } ?? false }

    /// - Parameters:
    ///   - sequence: the number of the last message of a write, higher than any before.
    ///   - endsAt: how many bytes the connection has when that is sent.
    mutating func append(sequence: UInt64, endsAt: UInt64) {
        // The boundary of what has arrived is among the oldest: the newest are taken together.
        if isFull { marks.removeLast() }
        marks.append(Mark(endsAt: endsAt, sequence: sequence))
    }

    /// So many of the connection's bytes have arrived.
    mutating func acknowledge(bytes: UInt64) { drop { $0.endsAt <= bytes } }

    /// The messages up to this one have arrived: their client said so.
    mutating func confirm(through sequence: UInt64) { drop { $0.sequence <= sequence } }

    /// Numbers begin anew: what was sent before is of another session.
    mutating func restart() {
        marks.removeAll(keepingCapacity: true)
        deliveredThrough = 0
    }

    /// Gives back the memory of a connection that has become quiet.
    mutating func trim() { if marks.isEmpty { marks = [] } }

    private mutating func drop(_ hasArrived: (Mark) -> Bool) {
        let count = marks.firstIndex { !hasArrived($0) } ?? marks.count
        guard count > 0 else { return }
        deliveredThrough = marks[count - 1].sequence
        if count == marks.count { marks.removeAll(keepingCapacity: true) } else { marks.removeFirst(count) }
    }
}

/// What the kernel knows of a TCP connection.
enum TCPInformation {
    /// How many bytes the peer's TCP has acknowledged since the connection began. Known also after a reset, as long as
    /// the socket is open.
    /// - Returns: nil where it is no TCP socket or the kernel does not count.
    static func acknowledgedBytes(_ descriptor: CInt) -> UInt64? {
        // `struct tcp_info` of linux/tcp.h, whose sixteenth word is `tcpi_bytes_acked`; the kernel fills what there is
        // room for, and says how much that was.
        var words = SIMD16<UInt64>()
        var length = socklen_t(MemoryLayout<SIMD16<UInt64>>.size)
        let result = getsockopt(descriptor, CInt(IPPROTO_TCP), TCP_INFO, &words, &length)
        return result == 0 && Int(length) == MemoryLayout<SIMD16<UInt64>>.size ? words[15] : nil
    }
}

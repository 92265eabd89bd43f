import CLinux

/// Datagrams on their way out of one socket, sent by one system call.
///
/// Payloads and headers are pointed at, not copied: they must stay where they are until `flush`. Addresses are copied.
/// A message of several datagrams ("segments") is cut by the kernel (UDP_SEGMENT), which costs about as much as sending
/// one. All of a message's segments have the same size, but the last may be shorter.
package struct SendBatch: ~Copyable {
    /// The kernel's limit in all versions that have UDP_SEGMENT (UDP_MAX_SEGMENTS, raised to 128 in later ones).
    package static var segmentsMax: Int { 64 }
    /// Below the 65,507 bytes that one IPv4 datagram could hold.
    package static var messageBytesMax: Int { 65_000 }
    /// Longest header that `headerSpace` gives room for.
    package static var headerBytesMax: Int { 64 }

    /// What a message is made of, beside what the kernel is told of it.
    struct Shape: BitwiseCopyable {
        var totalBytes = 0
        /// 0 when the message is one datagram.
        var segmentBytes = 0
        var datagrams = 1
        /// Control bytes in front of the segment size.
        var sourceControlBytes = 0
    }

    package let messageCapacity: Int
    package let vectorCapacity: Int
    /// Messages so far.
    package private(set) var count = 0

    let messages: UnsafeMutablePointer<turnpike_message>
    let shapes: UnsafeMutablePointer<Shape>
    /// Room to lay out one segment of a message that the kernel would not cut.
    let scratch: UnsafeMutablePointer<iovec>
    private let addresses: UnsafeMutablePointer<turnpike_address>
    private let controls: UnsafeMutableRawPointer
    private let vectors: UnsafeMutablePointer<iovec>
    private let headers: UnsafeMutablePointer<UInt8>
    private var vectorCount = 0
    private var headerCount = 0
    /// The run that the last message belongs to, while it can take more.
    private var openFlowKey: UInt64 = 0
    private var isRunOpen = false
    /// Whether a send may fail with an error that an earlier datagram left.
    var mayFailForAnother = false

    /// - Parameters:
    ///   - messageCapacity: 1 to 1,024, the kernel's limit for one call; other numbers are brought into that range.
    ///   - vectorCapacity: Parts over all messages, two for a datagram with a header; at least 2.
    package init(messageCapacity: Int, vectorCapacity: Int) {
        self.messageCapacity = min(max(messageCapacity, 1), 1_024)
        self.vectorCapacity = min(max(vectorCapacity, 2), 65_536)
        let controlBytes = Int(TURNPIKE_SEND_CONTROL_BYTES) * self.messageCapacity
        messages = .allocate(capacity: self.messageCapacity)
        messages.initialize(repeating: turnpike_message(), count: self.messageCapacity)
        shapes = .allocate(capacity: self.messageCapacity)
        shapes.initialize(repeating: Shape(), count: self.messageCapacity)
        addresses = .allocate(capacity: self.messageCapacity)
        addresses.initialize(repeating: turnpike_address(), count: self.messageCapacity)
        controls = .allocate(byteCount: controlBytes, alignment: 16)
        controls.initializeMemory(as: UInt8.self, repeating: 0, count: controlBytes)
        vectors = .allocate(capacity: self.vectorCapacity)
        vectors.initialize(repeating: iovec(), count: self.vectorCapacity)
        scratch = .allocate(capacity: self.vectorCapacity)
        scratch.initialize(repeating: iovec(), count: self.vectorCapacity)
        headers = .allocate(capacity: SendBatch.headerBytesMax * self.vectorCapacity / 2)
    }

    /// Whether there is no more room for a datagram with a header of its own. `flush` makes room.
    package var isFull: Bool {
        count == messageCapacity || vectorCount &+ 2 > vectorCapacity || headerCount == vectorCapacity / 2
    }

    /// Whether a datagram of that many parts, with a header of its own, still has room.
    package func hasRoom(parts: Int) -> Bool {
        count < messageCapacity && vectorCount &+ parts <= vectorCapacity && headerCount < vectorCapacity / 2
    }

    /// Room for a header of up to `headerBytesMax` bytes that lasts until `flush`, for payloads whose own headroom is
    /// another datagram. Nil when the batch is full.
    package mutating func headerSpace() -> UnsafeMutablePointer<UInt8>? {
        guard headerCount < vectorCapacity / 2 else { return nil }
        defer { headerCount &+= 1 }
        return headers + headerCount &* SendBatch.headerBytesMax
    }

    /// Begins a message of its own, to be filled by `append`.
    ///
    /// - Parameters:
    ///   - to: Copied; nil on a connected socket.
    ///   - source: The address to send from on a wildcard socket, or `.unspecified`.
    /// - Returns: False when the batch is full.
    package mutating func begin(to: UnsafePointer<SocketAddressStorage>?, source: LocalAddress) -> Bool {
        guard count < messageCapacity, vectorCount < vectorCapacity else { return false }
        let message = messages + count
        if let to {
            let address = addresses + count
            address.pointee = to.pointee
            message.pointee.header.msg_name = UnsafeMutableRawPointer(address)
            message.pointee.header.msg_namelen = to.pointee.length
        } else {
            message.pointee.header.msg_name = nil
            message.pointee.header.msg_namelen = 0
        }
        var shape = Shape()
        if source.isPresent {
            let control = controls + count &* Int(TURNPIKE_SEND_CONTROL_BYTES)
            shape.sourceControlBytes = turnpike_put_source(
                control,
                source.high,
                source.low,
                source.isIPv4,
                source.interfaceIndex
            )
        }
        shapes[count] = shape
        setControl(of: count, bytes: shape.sourceControlBytes)
        message.pointee.header.msg_iov = vectors + vectorCount
        message.pointee.header.msg_iovlen = 0
        isRunOpen = false
        count &+= 1
        return true
    }

    /// Adds a part to the message begun last.
    ///
    /// - Returns: False when there is no such message or no room.
    package mutating func append(_ bytes: UnsafeRawPointer, _ length: Int) -> Bool {
        guard count > 0, vectorCount < vectorCapacity, length >= 0 else { return false }
        push(bytes, length)
        let shape = shapes + (count &- 1)
        shape.pointee.totalBytes &+= length
        shape.pointee.datagrams = SendBatch.datagrams(of: shape.pointee)
        return true
    }

    /// Has the message begun last cut into datagrams of `bytes`, wherever its parts begin. The caller sees to it that
    /// there are at most `segmentsMax`.
    package mutating func setSegment(_ bytes: Int) {
        guard count > 0, bytes > 0, bytes <= SendBatch.messageBytesMax else { return }
        shapes[count &- 1].segmentBytes = bytes
        shapes[count &- 1].datagrams = SendBatch.datagrams(of: shapes[count &- 1])
        putSegment(bytes, message: count &- 1)
    }

    /// Adds one datagram, header and payload in a row, as a further segment of the last message where the rules allow:
    /// the same flow, the same size or one shorter at the end, and the limits on segments and bytes.
    ///
    /// - Parameters:
    ///   - to: Copied; nil on a connected socket.
    ///   - source: The address to send from on a wildcard socket, or `.unspecified`.
    ///   - header: Nil where there is none.
    ///   - flowKey: Equal for consecutive datagrams that have `to` and `source` in common, and only then.
    ///   - allowSegments: False gives every datagram a message of its own.
    /// - Returns: False when the batch is full; nothing was added then.
    package mutating func addRun(
        to: UnsafePointer<SocketAddressStorage>?,
        source: LocalAddress,
        header: UnsafeRawPointer?,
        headerLength: Int,
        payload: UnsafeRawPointer,
        length: Int,
        flowKey: UInt64,
        allowSegments: Bool
    ) -> Bool {
        guard vectorCount &+ 2 <= vectorCapacity, length >= 0, headerLength >= 0 else { return false }
        let bytes = header == nil ? length : headerLength &+ length
        if allowSegments, isRunOpen, openFlowKey == flowKey, extendRun(bytes) {
            // The parts are pushed below, behind those of the segments before.
        } else {
            guard begin(to: to, source: source) else { return false }
            shapes[count &- 1].totalBytes = bytes
            // An empty datagram cannot be a segment: nothing would be left of it.
            isRunOpen = allowSegments && bytes > 0
            openFlowKey = flowKey
        }
        if let header, headerLength > 0 { push(header, headerLength) }
        push(payload, length)
        return true
    }

    /// Sends everything and makes the batch empty. Datagrams that cannot be sent are dropped and counted.
    ///
    /// - Parameter hasErrorQueue: The socket keeps ICMP errors (`UDPSocket.setErrorQueue`). One that waits fails a send
    ///   it has nothing to do with, which is then made again.
    package mutating func flush(fd: Int32, hasErrorQueue: Bool = false) -> SendResult {
        var result = SendResult()
        var next = 0
        mayFailForAnother = hasErrorQueue
        while next < count {
            let outcome = send(messages + next, UInt32(truncatingIfNeeded: count &- next), fd: fd)
            if outcome > 0 {
                let end = min(next &+ Int(outcome), count)
                while next < end {
                    result.sent &+= shapes[next].datagrams
                    next &+= 1
                }
            } else {
                next = settle(failed: next, errno: 0 &- outcome, fd: fd, into: &result)
            }
        }
        reset()
        return result
    }

    /// Forgets everything added.
    package mutating func reset() {
        count = 0
        vectorCount = 0
        headerCount = 0
        isRunOpen = false
    }

    deinit {
        messages.deallocate()
        shapes.deallocate()
        scratch.deallocate()
        addresses.deallocate()
        controls.deallocate()
        vectors.deallocate()
        headers.deallocate()
    }
}

extension SendBatch {
    /// Makes the last message one segment longer if it may be, and closes the run if nothing may follow.
    private mutating func extendRun(_ bytes: Int) -> Bool {
        let last = count &- 1
        let shape = shapes + last
        let segmentBytes = shape.pointee.segmentBytes == 0 ? shape.pointee.totalBytes : shape.pointee.segmentBytes
        guard bytes > 0, bytes <= segmentBytes, shape.pointee.datagrams < SendBatch.segmentsMax,
            shape.pointee.totalBytes &+ bytes <= SendBatch.messageBytesMax
        else {
            isRunOpen = false
            return false
        }
        if shape.pointee.segmentBytes == 0 {
            shape.pointee.segmentBytes = segmentBytes
            putSegment(segmentBytes, message: last)
        }
        shape.pointee.datagrams &+= 1
        shape.pointee.totalBytes &+= bytes
        if bytes < segmentBytes { isRunOpen = false }
        return true
    }

    private mutating func push(_ bytes: UnsafeRawPointer, _ length: Int) {
        vectors[vectorCount] = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes), iov_len: length)
        vectorCount &+= 1
        messages[count &- 1].header.msg_iovlen &+= 1
    }

    private func putSegment(_ bytes: Int, message: Int) {
        let control = controls + message &* Int(TURNPIKE_SEND_CONTROL_BYTES)
        let before = shapes[message].sourceControlBytes
        let added = turnpike_put_segment(control + before, UInt16(truncatingIfNeeded: bytes))
        setControl(of: message, bytes: before &+ added)
    }

    private func setControl(of message: Int, bytes: Int) {
        let control = controls + message &* Int(TURNPIKE_SEND_CONTROL_BYTES)
        messages[message].header.msg_control = bytes == 0 ? nil : control
        messages[message].header.msg_controllen = bytes
    }

    private static func datagrams(of shape: Shape) -> Int {
        guard shape.segmentBytes > 0 else { return 1 }
        return max((shape.totalBytes &+ shape.segmentBytes &- 1) / shape.segmentBytes, 1)
    }
}

import CLinux

extension SendBatch {
    /// Sends messages, again where an error that an earlier datagram has left may be all that was wrong. A few times,
    /// since another may have come meanwhile, and not without end, since the error may be this datagram's own.
    func send(_ message: UnsafeMutablePointer<turnpike_message>, _ count: UInt32, fd: Int32) -> Int32 {
        var outcome = turnpike_send(fd, message, count)
        var triesLeft = mayFailForAnother ? 3 : 0
        while outcome < 0, triesLeft > 0, Errno.mayBeLeftOver(0 &- outcome) {
            outcome = turnpike_send(fd, message, count)
            triesLeft &-= 1
        }
        return outcome
    }

    /// Counts or repeats a message that the kernel did not take, and says where to go on.
    func settle(failed index: Int, errno number: Int32, fd: Int32, into result: inout SendResult) -> Int {
        if number == EAGAIN {
            // The socket's buffer is full, whatever the datagram's size or destination. To try each of the rest would
            // cost a system call for every one, just when there is too much to do.
            for message in index..<count { result.drop(shapes[message].datagrams, errno: number) }
            return count
        }
        let mayBeSegmentation = number == EIO || number == EINVAL || number == EMSGSIZE
        if mayBeSegmentation, shapes[index].segmentBytes > 0 {
            sendSegments(of: index, refusal: number, fd: fd, into: &result)
        } else {
            result.drop(shapes[index].datagrams, errno: number)
        }
        return index &+ 1
    }

    /// Sends the datagrams of one message one by one. Only when one of them goes was segmentation the trouble: a
    /// destination that takes nothing, such as port 0, gives the same errors and shall not slow down the others.
    private func sendSegments(of index: Int, refusal: Int32, fd: Int32, into result: inout SendResult) {
        let shape = shapes[index]
        var single = messages[index]
        single.header.msg_controllen = shape.sourceControlBytes
        if shape.sourceControlBytes == 0 { single.header.msg_control = nil }
        single.header.msg_iov = scratch
        var cursor = VectorCursor(messages[index].header)
        for datagram in 0..<shape.datagrams {
            single.header.msg_iovlen = cursor.take(shape.segmentBytes, into: scratch)
            let outcome = send(&single, 1, fd: fd)
            if outcome > 0 {
                result.sent &+= 1
                result.refusalErrno = refusal
            } else if outcome == 0 &- EAGAIN {
                result.drop(shape.datagrams &- datagram, errno: EAGAIN)
                return
            } else {
                result.drop(1, errno: 0 &- outcome)
            }
        }
    }
}

/// A place in the parts of a message.
private struct VectorCursor {
    private let vectors: UnsafeMutablePointer<iovec>?
    private let count: Int
    private var index = 0
    private var offset = 0

    init(_ header: msghdr) {
        vectors = header.msg_iov
        count = header.msg_iovlen
    }

    /// Lays out the next `bytes`, or what is left, at `output`, and returns the number of parts.
    mutating func take(_ bytes: Int, into output: UnsafeMutablePointer<iovec>) -> Int {
        guard let vectors else { return 0 }
        var wanted = bytes
        var parts = 0
        while wanted > 0, index < count {
            let vector = vectors[index]
            let available = vector.iov_len &- offset
            let taken = min(available, wanted)
            if let base = vector.iov_base, taken > 0 {
                output[parts] = iovec(iov_base: base + offset, iov_len: taken)
                parts &+= 1
            }
            wanted &-= taken
            offset &+= taken
            if taken == available {
                index &+= 1
                offset = 0
            }
        }
        return parts
    }
}

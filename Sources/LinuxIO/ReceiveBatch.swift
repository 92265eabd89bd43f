import CLinux

/// A fixed number of slots that datagrams are received into, many in one system call.
///
/// One slot is `headroom`, `slotBytes` of payload and `tailroom` in a row, so that a header can be put in front of a
/// payload, or padding behind it, where it lies. Message headers are filled once; a receive resets lengths only. The
/// memory is mapped, not zeroed: pages become resident when a datagram first reaches them.
@usableFromInline
package struct ReceiveBatch: ~Copyable {
    /// Bytes in front of every payload that the owner may write to.
    package static var headroomBytes: Int { 64 }
    /// Bytes behind every payload, however long, that the owner may write to.
    package static var tailroomBytes: Int { 64 }
    /// What a slot must hold where the kernel merges datagrams (`UDPSocket.setReceiveMerging`).
    package static var mergedSlotBytes: Int { 65_536 }

    package let capacity: Int
    /// Longest payload; what is longer arrives cut, with `isTruncated`.
    package let slotBytes: Int

    @usableFromInline let messages: UnsafeMutablePointer<turnpike_message>
    @usableFromInline let arrivals: UnsafeMutablePointer<turnpike_arrival>
    @usableFromInline let addresses: UnsafeMutablePointer<turnpike_address>
    @usableFromInline let firstPayload: UnsafeMutablePointer<UInt8>
    @usableFromInline let strideBytes: Int
    private let vectors: UnsafeMutablePointer<iovec>
    private let controls: UnsafeMutableRawPointer
    private let mapping: UnsafeMutableRawPointer
    private let mappedBytes: Int

    /// - Parameters:
    ///   - capacity: Slots, 1 to 1,024 (the kernel's limit for one call); other numbers are brought into that range.
    ///   - slotBytes: Payload bytes, 2,048 to 65,536; likewise.
    package init(capacity: Int, slotBytes: Int) throws(SystemCallError) {
        let slots = min(max(capacity, 1), 1_024)
        let payloadBytes = min(max(slotBytes, 2_048), ReceiveBatch.mergedSlotBytes)
        // A whole number of cache lines, and not of pages: the heads of all slots would share a few cache sets.
        let stride = (ReceiveBatch.headroomBytes + payloadBytes + ReceiveBatch.tailroomBytes + 63) & ~63
        guard let memory = turnpike_map(stride * slots) else {
            throw SystemCallError(number: ENOMEM, call: "mmap")
        }
        self.capacity = slots
        self.slotBytes = payloadBytes
        strideBytes = stride
        mapping = memory
        mappedBytes = stride * slots
        firstPayload = memory.assumingMemoryBound(to: UInt8.self) + ReceiveBatch.headroomBytes
        messages = .allocate(capacity: slots)
        arrivals = .allocate(capacity: slots)
        addresses = .allocate(capacity: slots)
        vectors = .allocate(capacity: slots)
        let controlBytes = Int(TURNPIKE_RECEIVE_CONTROL_BYTES)
        controls = .allocate(byteCount: controlBytes * slots, alignment: 16)
        arrivals.initialize(repeating: turnpike_arrival(), count: slots)
        addresses.initialize(repeating: turnpike_address(), count: slots)
        for slot in 0..<slots {
            (vectors + slot).initialize(to: iovec(iov_base: firstPayload + stride * slot, iov_len: payloadBytes))
            turnpike_message_prepare(
                messages + slot,
                addresses + slot,
                vectors + slot,
                controls + controlBytes * slot
            )
        }
    }

    /// Takes what waits at the socket into the slots from `firstSlot` on, without waiting for more.
    ///
    /// - Returns: How many slots were filled, at most `count`; 0 when there are no such slots; a negative errno on
    ///   failure, EAGAIN when nothing waits.
    package mutating func receive(fd: Int32, at firstSlot: Int, count: Int) -> Int {
        guard firstSlot >= 0, firstSlot < capacity, count > 0 else { return 0 }
        let slots = UInt32(truncatingIfNeeded: min(count, capacity &- firstSlot))
        return Int(turnpike_receive(fd, messages + firstSlot, arrivals + firstSlot, slots))
    }

    deinit {
        turnpike_unmap(mapping, mappedBytes)
        messages.deallocate()
        arrivals.deallocate()
        addresses.deallocate()
        vectors.deallocate()
        controls.deallocate()
    }
}

/// What a slot holds after `receive`. Slots are not checked: they must be below `capacity`, and have been filled. All
/// are inlined into the caller, because they run for every packet and are a load or two each.
extension ReceiveBatch {
    /// The payload, with `headroomBytes` to write in front of it and `tailroomBytes` behind its `length`.
    @inlinable @inline(always)
    package func payload(_ slot: Int) -> UnsafeMutablePointer<UInt8> {
        firstPayload + slot &* strideBytes
    }

    /// Bytes received into the slot, over all datagrams merged in it.
    @inlinable @inline(always)
    package func length(_ slot: Int) -> Int {
        Int(truncatingIfNeeded: messages[slot].length)
    }

    /// Whether the datagram was longer than `slotBytes`.
    @inlinable @inline(always)
    package func isTruncated(_ slot: Int) -> Bool {
        turnpike_message_is_truncated(messages + slot)
    }

    /// Bytes of every datagram in the slot but the last, which may be shorter; `length` when there is one only.
    @inlinable @inline(always)
    package func segmentBytes(_ slot: Int) -> Int {
        let segment = Int(truncatingIfNeeded: arrivals[slot].segment_bytes)
        return segment == 0 ? length(slot) : segment
    }

    /// Where the datagram came from.
    @inlinable @inline(always)
    package func source(_ slot: Int) -> AddressParts {
        AddressParts(decoding: addresses + slot)
    }

    /// The same as a socket address, to answer to; it keeps the scope of a link-local address.
    @inlinable @inline(always)
    package func sourceAddress(_ slot: Int) -> UnsafePointer<SocketAddressStorage> {
        UnsafePointer(addresses + slot)
    }

    /// Where the datagram came to, on a socket with `UDPSocket.setPacketInfo`; else not present.
    @inlinable @inline(always)
    package func local(_ slot: Int) -> LocalAddress {
        let arrival = arrivals + slot
        var local = LocalAddress(
            high: arrival.pointee.local_high,
            low: arrival.pointee.local_low,
            isIPv4: arrival.pointee.local_is_v4,
            interfaceIndex: arrival.pointee.interface_index
        )
        local.isPresent = arrival.pointee.has_local
        return local
    }
}

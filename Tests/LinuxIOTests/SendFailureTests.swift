import Glibc
import LinuxIO
import Testing

@Suite struct SendFailureTests {
    @Test func fullBatchTakesNothingMore() throws {
        var batch = SendBatch(messageCapacity: 2, vectorCapacity: 100)
        let payload = Bytes(count: 10)
        check(batch.add(payload, to: Address.loopback, flow: 1))
        check(!batch.isFull)
        check(batch.add(payload, to: Address.loopback, flow: 2))
        check(batch.isFull)
        check(!batch.add(payload, to: Address.loopback, flow: 3))
        #expect(batch.count == 2)
        batch.reset()
        check(!batch.isFull)

        var narrow = SendBatch(messageCapacity: 100, vectorCapacity: 4)
        check(narrow.add(payload, to: Address.loopback))
        check(narrow.add(payload, to: Address.loopback))
        check(narrow.add(payload, to: Address.loopback))
        check(narrow.isFull)
        check(!narrow.add(payload, to: Address.loopback))
        #expect(narrow.count == 1)
    }

    @Test func headerSpaceEndsWithTheBatch() {
        var batch = SendBatch(messageCapacity: 4, vectorCapacity: 4)
        let first = batch.headerSpace()
        let second = batch.headerSpace()
        #expect(first != nil && second != nil && first != second)
        check(batch.isFull)
        #expect(batch.headerSpace() == nil)
        batch.reset()
        #expect(batch.headerSpace() == first)
    }

    @Test func partsWithoutAMessageAreRefused() {
        var batch = SendBatch(messageCapacity: 4, vectorCapacity: 4)
        let payload = Bytes(count: 10)
        check(!batch.append(payload.base, 10))
        batch.setSegment(5)
        #expect(batch.flush(fd: -1) == SendResult())
    }

    @Test func fullSocketDropsTheRestAndCountsIt() throws {
        let pair = try SocketPair()
        var batch = SendBatch(messageCapacity: 600, vectorCapacity: 1_200)
        let payload = Bytes(count: 8)
        for _ in 0..<600 {
            check(batch.begin(to: nil, source: .unspecified))
            check(batch.append(payload.base, 8))
        }
        let result = batch.flush(fd: pair.sender.raw)
        #expect(result.sent > 0 && result.droppedBusy > 0)
        #expect(result.sent + result.droppedBusy == 600)
        #expect(result.droppedError == 0)
        #expect(result.lastErrno == Errno.tryAgain)
        var incoming = try ReceiveBatch(capacity: 600, slotBytes: 2_048)
        #expect(incoming.receive(fd: pair.receiver.raw, at: 0, count: 600) == result.sent)
    }

    @Test func datagramsDroppedAreCountedByTheSegment() throws {
        let pair = try SocketPair()
        var batch = SendBatch(messageCapacity: 600, vectorCapacity: 1_200)
        let payload = Bytes(count: 30)
        while true {
            check(batch.begin(to: nil, source: .unspecified))
            check(batch.append(payload.base, 30))
            if batch.flush(fd: pair.sender.raw).droppedBusy > 0 { break }
        }
        for _ in 0..<2 {
            check(batch.begin(to: nil, source: .unspecified))
            check(batch.append(payload.base, 30))
            batch.setSegment(10)
        }
        #expect(batch.flush(fd: pair.sender.raw).droppedBusy == 6)
    }

    @Test func messageThatFailsDoesNotHoldUpTheOthers() throws {
        let sender = try TestSocket()
        let receiver = try TestSocket()
        var batch = SendBatch(messageCapacity: 16, vectorCapacity: 32)
        let payload = Bytes(count: 64)
        let nowhere = Address.v4(127, 0, 0, 1, port: 0)
        for (place, isGood) in [false, true, true, false, false, true, false].enumerated() {
            check(batch.add(payload, to: isGood ? receiver.address : nowhere, flow: UInt64(place)))
        }
        let result = batch.flush(fd: sender.fd)
        #expect(result.sent == 3)
        #expect(result.droppedError == 4)
        #expect(result.droppedBusy == 0)
        #expect(result.lastErrno == Errno.invalidArgument)
        #expect(!result.segmentationRefused)
    }

    @Test func datagramTooLongForADFSocketIsDropped() throws {
        let sender = try TestSocket()
        let receiver = try TestSocket()
        var batch = SendBatch(messageCapacity: 4, vectorCapacity: 8)
        let payload = Bytes(count: 65_508)
        check(batch.add(payload, to: receiver.address))
        let result = batch.flush(fd: sender.fd)
        #expect(result.droppedError == 1)
        #expect(result.lastErrno == Errno.messageTooLong)
    }

    /// A socket without checksums sends, but the kernel will not cut its messages (EINVAL).
    private func makeUncheckedSocket(_ address: AddressParts) throws -> FileDescriptor {
        let descriptor = try UDPSocket.open(isIPv4: true)
        var on: Int32 = 1
        try #require(setsockopt(descriptor.raw, SOL_SOCKET, SO_NO_CHECK, &on, 4) == 0)
        try UDPSocket.bind(descriptor.raw, to: SocketAddressStorage(address))
        return descriptor
    }

    @Test func refusedSegmentsAreSentOneByOne() throws {
        let sender = try makeUncheckedSocket(Address.anyV4)
        let receiver = try TestSocket()
        var to = SocketAddressStorage(receiver.address)
        var batch = SendBatch(messageCapacity: 16, vectorCapacity: 64)
        let payload = Bytes(count: 500)
        let source = LocalAddress(high: 0, low: Address.v4(127, 0, 0, 4).low, isIPv4: true)
        let sizes = [100, 100, 100, 60]
        for size in sizes {
            let added = batch.addRun(
                to: &to,
                source: source,
                header: payload.base,
                headerLength: 8,
                payload: payload.base + 8,
                length: size - 8,
                flowKey: 1,
                allowSegments: true
            )
            #expect(added)
        }
        // One part that holds several segments, and a plain message behind.
        check(batch.begin(to: &to, source: source))
        check(batch.append(payload.base, 450))
        batch.setSegment(200)
        check(batch.begin(to: &to, source: source))
        check(batch.append(payload.base, 77))

        let result = batch.flush(fd: sender.raw)
        #expect(result.segmentationRefused)
        #expect(result.refusalErrno == Errno.invalidArgument)
        #expect(result.sent == 8)
        #expect(result.droppedBusy + result.droppedError == 0)

        try awaitReadable(receiver.fd)
        var incoming = try ReceiveBatch(capacity: 16, slotBytes: 2_048)
        #expect(incoming.receive(fd: receiver.fd, at: 0, count: 16) == 8)
        let whole = payload.array
        var expected = sizes.map { Array(whole[0..<$0]) }
        expected += [Array(whole[0..<200]), Array(whole[200..<400]), Array(whole[400..<450]), Array(whole[0..<77])]
        #expect(datagrams(incoming, slots: 0..<8) == expected)
        for slot in 0..<8 { #expect(incoming.source(slot).low == source.low) }
    }

    @Test func destinationThatTakesNothingIsNoRefusalOfSegments() throws {
        let sender = try TestSocket()
        var batch = SendBatch(messageCapacity: 16, vectorCapacity: 64)
        let payload = Bytes(count: 50)
        for _ in 0..<5 { check(batch.add(payload, to: Address.v4(127, 0, 0, 1, port: 0))) }
        #expect(batch.count == 1)
        let result = batch.flush(fd: sender.fd)
        #expect(result.droppedError == 5)
        #expect(!result.segmentationRefused)
    }
}

import Glibc
import LinuxIO
import Testing

@Suite struct SegmentTests {
    /// Sends `sizes` as one run to a merging socket, and gives the sizes of what each read returned.
    private func roundTrip(sizes: [Int], header: [UInt8] = []) throws -> [[[UInt8]]] {
        let sender = try TestSocket()
        let receiver = try TestSocket(merging: true)
        try UDPSocket.setReceiveBuffer(receiver.fd, bytes: 4 << 20)
        var to = SocketAddressStorage(receiver.address)
        var batch = SendBatch(messageCapacity: 256, vectorCapacity: 1_024)
        let payloads = sizes.enumerated().map { place, size in
            Bytes(count: size) { UInt8(truncatingIfNeeded: $0 &+ place &* 7) }
        }
        for payload in payloads {
            var space: UnsafeMutablePointer<UInt8>?
            if !header.isEmpty {
                space = batch.headerSpace()
                #expect(space != nil)
                space?.update(from: header, count: header.count)
            }
            let added = batch.addRun(
                to: &to,
                source: .unspecified,
                header: space.map { UnsafeRawPointer($0) },
                headerLength: header.count,
                payload: payload.base,
                length: payload.count,
                flowKey: 1,
                allowSegments: true
            )
            #expect(added)
        }
        let result = batch.flush(fd: sender.fd)
        #expect(result.sent == sizes.count)
        #expect(!result.segmentationRefused)
        try awaitReadable(receiver.fd)
        var incoming = try ReceiveBatch(capacity: 256, slotBytes: ReceiveBatch.mergedSlotBytes)
        let count = incoming.receive(fd: receiver.fd, at: 0, count: 256)
        try #require(count > 0)
        let reads = (0..<count).map { datagrams(incoming, slots: $0..<($0 + 1)) }
        #expect(reads.flatMap { $0 } == payloads.map { header + $0.array })
        return reads
    }

    @Test func tenEqualDatagramsTravelAsOne() throws {
        #expect(UDPSocket.isSegmentationSupported())
        let reads = try roundTrip(sizes: Array(repeating: 1_200, count: 10))
        #expect(reads.map(\.count) == [10])
    }

    @Test func headersAreSegmentsTogetherWithTheirPayloads() throws {
        let reads = try roundTrip(sizes: Array(repeating: 160, count: 12), header: [0x40, 0x00, 0x00, 0xA0])
        #expect(reads.map(\.count) == [12])
        #expect(reads[0][11].count == 164)
    }

    @Test func shorterDatagramEndsItsRun() throws {
        let reads = try roundTrip(sizes: [500, 500, 499, 500, 500])
        #expect(reads.map(\.count) == [3, 2])
    }

    @Test func longerDatagramBeginsARun() throws {
        let reads = try roundTrip(sizes: [300, 301, 301, 7, 8])
        #expect(reads.map { $0.map(\.count) } == [[300], [301, 301, 7], [8]])
    }

    @Test func emptyDatagramsStayWhole() throws {
        let reads = try roundTrip(sizes: [0, 0, 10, 0, 10, 10])
        #expect(reads.map { $0.map(\.count) } == [[0], [0], [10], [0], [10, 10]])
    }

    @Test func runsEndAtSixtyFourSegments() throws {
        let reads = try roundTrip(sizes: Array(repeating: 100, count: 130))
        #expect(reads.map(\.count) == [64, 64, 2])
    }

    @Test func runsEndAtTheBytesOneMessageHolds() throws {
        let reads = try roundTrip(sizes: Array(repeating: 1_400, count: 60))
        // 46 times 1,400 is 64,400; one more would pass 65,000.
        #expect(reads.map(\.count) == [46, 14])
    }

    @Test func flowsAreNotMixed() throws {
        let sender = try TestSocket()
        let first = try TestSocket()
        let second = try TestSocket()
        var batch = SendBatch(messageCapacity: 8, vectorCapacity: 16)
        let payload = Bytes(count: 80)
        for (flow, count) in [(1, 2), (2, 1), (1, 1)] {
            for _ in 0..<count {
                check(batch.add(payload, to: flow == 1 ? first.address : second.address, flow: UInt64(flow)))
            }
        }
        #expect(batch.count == 3)
        #expect(batch.flush(fd: sender.fd).sent == 4)
        var incoming = try ReceiveBatch(capacity: 8, slotBytes: 2_048)
        try awaitReadable(first.fd)
        try awaitReadable(second.fd)
        #expect(incoming.receive(fd: first.fd, at: 0, count: 8) == 3)
        #expect(incoming.receive(fd: second.fd, at: 0, count: 8) == 1)
    }

    @Test func runDoesNotOutliveAFlushOrAMessageBetween() throws {
        let socket = try TestSocket()
        var to = SocketAddressStorage(socket.address)
        var batch = SendBatch(messageCapacity: 8, vectorCapacity: 16)
        let payload = Bytes(count: 80)
        check(batch.add(payload, to: socket.address))
        check(batch.begin(to: &to, source: .unspecified))
        check(batch.append(payload.base, 80))
        check(batch.add(payload, to: socket.address))
        #expect(batch.count == 3)
        #expect(batch.flush(fd: socket.fd).sent == 3)
        check(batch.add(payload, to: socket.address))
        #expect(batch.count == 1)
    }

    @Test func segmentsCanBeForbidden() throws {
        let socket = try TestSocket()
        var to = SocketAddressStorage(socket.address)
        var batch = SendBatch(messageCapacity: 8, vectorCapacity: 16)
        let payload = Bytes(count: 80)
        for allowSegments in [false, false, true, false, true] {
            let added = batch.addRun(
                to: &to,
                source: .unspecified,
                header: nil,
                headerLength: 0,
                payload: payload.base,
                length: 80,
                flowKey: 9,
                allowSegments: allowSegments
            )
            #expect(added)
        }
        #expect(batch.count == 5)
        #expect(batch.flush(fd: socket.fd).sent == 5)
    }

    @Test func mergedPayloadCanBeSentOnAsOnePart() throws {
        let sender = try TestSocket()
        let receiver = try TestSocket()
        var to = SocketAddressStorage(receiver.address)
        var batch = SendBatch(messageCapacity: 1, vectorCapacity: 2)
        let payload = Bytes(count: 950)
        check(batch.begin(to: &to, source: .unspecified))
        check(batch.append(payload.base, 950))
        batch.setSegment(200)
        #expect(batch.flush(fd: sender.fd).sent == 5)
        try awaitReadable(receiver.fd)
        var incoming = try ReceiveBatch(capacity: 8, slotBytes: 2_048)
        #expect(incoming.receive(fd: receiver.fd, at: 0, count: 8) == 5)
        #expect((0..<5).map { incoming.length($0) } == [200, 200, 200, 200, 150])
    }

    @Test func sourceAndSegmentSizeGoTogether() throws {
        let client = try TestSocket(merging: true)
        let server = try TestSocket(Address.anyV4)
        var to = SocketAddressStorage(client.address)
        var batch = SendBatch(messageCapacity: 4, vectorCapacity: 16)
        let payload = Bytes(count: 300)
        for _ in 0..<3 {
            let added = batch.addRun(
                to: &to,
                source: LocalAddress(high: 0, low: Address.v4(127, 0, 0, 3).low, isIPv4: true),
                header: payload.base,
                headerLength: 4,
                payload: payload.base + 4,
                length: 296,
                flowKey: 1,
                allowSegments: true
            )
            #expect(added)
        }
        #expect(batch.count == 1)
        #expect(batch.flush(fd: server.fd).sent == 3)
        try awaitReadable(client.fd)
        var incoming = try ReceiveBatch(capacity: 4, slotBytes: ReceiveBatch.mergedSlotBytes)
        #expect(incoming.receive(fd: client.fd, at: 0, count: 4) == 1)
        #expect(incoming.source(0).low == Address.v4(127, 0, 0, 3).low)
        #expect(datagrams(incoming, slots: 0..<1) == [payload.array, payload.array, payload.array])
    }
}

import Glibc
import LinuxIO
import Testing

@Suite struct BatchTests {
    @Test(arguments: [true, false])
    func batchArrivesWholeAndInOrder(isIPv4: Bool) throws {
        let sender = try TestSocket(isIPv4 ? Address.loopback : Address.loopbackV6)
        let receiver = try TestSocket(isIPv4 ? Address.loopback : Address.loopbackV6)
        var outgoing = SendBatch(messageCapacity: 16, vectorCapacity: 32)
        var to = SocketAddressStorage(receiver.address)
        let payloads = (1...10).map { size in Bytes(count: size * 100) { UInt8(truncatingIfNeeded: $0 &+ size) } }
        for payload in payloads {
            check(outgoing.begin(to: &to, source: .unspecified))
            // In two parts, which make one datagram.
            check(outgoing.append(payload.base, 50))
            check(outgoing.append(payload.base + 50, payload.count - 50))
        }
        let result = outgoing.flush(fd: sender.fd)
        #expect(result.sent == 10)
        #expect(result.droppedBusy + result.droppedError == 0)
        #expect(outgoing.count == 0)

        try awaitReadable(receiver.fd)
        var incoming = try ReceiveBatch(capacity: 16, slotBytes: 2_048)
        #expect(incoming.receive(fd: receiver.fd, at: 3, count: 16) == 10)
        #expect(datagrams(incoming, slots: 3..<13) == payloads.map(\.array))
        for slot in 3..<13 {
            #expect(incoming.source(slot) == sender.address)
            #expect(incoming.sourceAddress(slot).pointee.parts == sender.address)
            #expect(incoming.segmentBytes(slot) == incoming.length(slot))
            check(!incoming.isTruncated(slot))
            check(!incoming.local(slot).isPresent)
        }
        #expect(incoming.receive(fd: receiver.fd, at: 0, count: 16) == -Int(Errno.tryAgain))
        #expect(incoming.receive(fd: receiver.fd, at: 0, count: 1) == -Int(Errno.tryAgain))
        #expect(incoming.receive(fd: receiver.fd, at: 16, count: 1) == 0)
        #expect(incoming.receive(fd: -1, at: 0, count: 2) == -Int(Errno.badDescriptor))
    }

    @Test func receiveTakesNoMoreThanAskedFor() throws {
        let sender = try TestSocket()
        let receiver = try TestSocket()
        var outgoing = SendBatch(messageCapacity: 8, vectorCapacity: 16)
        let payload = Bytes(count: 20)
        for size in 11...15 { check(outgoing.add(payload, length: size, to: receiver.address, flow: UInt64(size))) }
        #expect(outgoing.flush(fd: sender.fd).sent == 5)
        try awaitReadable(receiver.fd)
        var incoming = try ReceiveBatch(capacity: 4, slotBytes: 2_048)
        #expect(incoming.receive(fd: receiver.fd, at: 0, count: 1) == 1)
        #expect(incoming.length(0) == 11)
        #expect(incoming.receive(fd: receiver.fd, at: 2, count: 100) == 2)
        #expect([incoming.length(2), incoming.length(3)] == [12, 13])
        #expect(incoming.receive(fd: receiver.fd, at: 0, count: 4) == 2)
        #expect([incoming.length(0), incoming.length(1)] == [14, 15])
    }

    @Test func longDatagramIsMarkedAsTruncatedAndTheNextIsNot() throws {
        let sender = try TestSocket()
        let receiver = try TestSocket()
        var outgoing = SendBatch(messageCapacity: 4, vectorCapacity: 8)
        let payload = Bytes(count: 2_049)
        for size in [2_049, 2_048, 0] {
            check(outgoing.add(payload, length: size, to: receiver.address, flow: UInt64(size)))
        }
        #expect(outgoing.flush(fd: sender.fd).sent == 3)
        try awaitReadable(receiver.fd)
        var incoming = try ReceiveBatch(capacity: 4, slotBytes: 2_048)
        #expect(incoming.receive(fd: receiver.fd, at: 0, count: 4) == 3)
        #expect((0..<3).map { incoming.isTruncated($0) } == [true, false, false])
        #expect((0..<3).map { incoming.length($0) } == [2_048, 2_048, 0])
    }

    @Test func headroomAndTailroomBelongToTheSlotAlone() throws {
        let sender = try TestSocket()
        let receiver = try TestSocket()
        var outgoing = SendBatch(messageCapacity: 4, vectorCapacity: 8)
        let payload = Bytes(count: 2_048)
        for flow in 0..<3 as Range<UInt64> { check(outgoing.add(payload, to: receiver.address, flow: flow)) }
        #expect(outgoing.flush(fd: sender.fd).sent == 3)
        try awaitReadable(receiver.fd)
        var incoming = try ReceiveBatch(capacity: 3, slotBytes: 2_048)
        #expect(incoming.receive(fd: receiver.fd, at: 0, count: 3) == 3)
        for slot in 0..<3 {
            let start = incoming.payload(slot)
            (start - ReceiveBatch.headroomBytes).update(repeating: 0xEE, count: ReceiveBatch.headroomBytes)
            (start + incoming.length(slot)).update(repeating: 0xDD, count: ReceiveBatch.tailroomBytes)
        }
        #expect(datagrams(incoming, slots: 0..<3) == [payload.array, payload.array, payload.array])
    }

    @Test func slotsBecomeResidentWhenTouchedOnly() throws {
        let batch = try ReceiveBatch(capacity: 64, slotBytes: ReceiveBatch.mergedSlotBytes)
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let start = UnsafeMutableRawPointer(batch.payload(0) - ReceiveBatch.headroomBytes)
        let length = 64 * 65_536
        var states = [UInt8](repeating: 0, count: length / page)
        try #require(mincore(start, length, &states) == 0)
        #expect(states.allSatisfy { $0 & 1 == 0 })
        batch.payload(9)[0] = 1
        try #require(mincore(start, length, &states) == 0)
        #expect(states.count { $0 & 1 == 1 } == 1)
    }

    @Test func aLinkLocalAddressKeepsItsLink() {
        // struct sockaddr_in6: the address is its bytes 8 to 23, the scope the four behind it.
        func layout(_ storage: SocketAddressStorage) -> (high: UInt64, scope: UInt32) {
            withUnsafeBytes(of: storage) { bytes in
                (
                    UInt64(bigEndian: bytes.load(fromByteOffset: 8, as: UInt64.self)),
                    bytes.load(fromByteOffset: 24, as: UInt32.self)
                )
            }
        }
        let link: UInt64 = 0xFE80_0000_0000_0000
        for (high, scope) in [(link | 7, 7), (link, 0), (link | 0xFFFF_FFFF, .max)] as [(UInt64, UInt32)] {
            let storage = SocketAddressStorage(high: high, low: 9, isIPv4: false, port: 4_000)
            #expect(layout(storage) == (link, scope))
            #expect(storage.parts.high == high && storage.parts.low == 9 && storage.parts.port == 4_000)
        }
        // Everywhere else those bits are a part of the address.
        for high in [0xFE81_0000_0000_0007, 0x2001_0DB8_0000_0007] as [UInt64] {
            let storage = SocketAddressStorage(high: high, low: 9, isIPv4: false, port: 4_000)
            #expect(layout(storage) == (high, 0) && storage.parts.high == high)
        }
    }

    @Test(arguments: [true, false])
    func wildcardSocketAnswersFromTheAddressAsked(isIPv4: Bool) throws {
        let client = try TestSocket(isIPv4 ? Address.loopback : Address.loopbackV6)
        let server = try TestSocket(isIPv4 ? Address.anyV4 : Address.anyV6, packetInfo: true)
        var target = isIPv4 ? Address.v4(127, 0, 0, 2) : Address.loopbackV6
        target.port = server.address.port
        var batch = SendBatch(messageCapacity: 4, vectorCapacity: 8)
        let payload = Bytes(count: 33)
        check(batch.add(payload, to: target))
        #expect(batch.flush(fd: client.fd).sent == 1)

        try awaitReadable(server.fd)
        var incoming = try ReceiveBatch(capacity: 4, slotBytes: 2_048)
        #expect(incoming.receive(fd: server.fd, at: 0, count: 4) == 1)
        let local = incoming.local(0)
        #expect(local.isPresent)
        #expect(local.high == target.high && local.low == target.low && local.isIPv4 == isIPv4)
        #expect(local.interfaceIndex == if_nametoindex("lo"))

        check(batch.begin(to: incoming.sourceAddress(0), source: local))
        check(batch.append(payload.base, payload.count))
        #expect(batch.flush(fd: server.fd).sent == 1)
        try awaitReadable(client.fd)
        #expect(incoming.receive(fd: client.fd, at: 1, count: 2) == 1)
        #expect(incoming.source(1) == target)
    }

    @Test func withoutAnAddressAskedTheKernelChooses() throws {
        let client = try TestSocket()
        let server = try TestSocket(Address.anyV4)
        var batch = SendBatch(messageCapacity: 1, vectorCapacity: 2)
        check(batch.add(Bytes(count: 0), to: client.address))
        #expect(batch.flush(fd: server.fd).sent == 1)
        try awaitReadable(client.fd)
        var incoming = try ReceiveBatch(capacity: 1, slotBytes: 2_048)
        #expect(incoming.receive(fd: client.fd, at: 0, count: 1) == 1)
        #expect(incoming.source(0).low == Address.loopback.low)
        #expect(incoming.length(0) == 0)
    }

    @Test func localAddressIsForgottenWhenTheNextDatagramHasNone() throws {
        let client = try TestSocket()
        let server = try TestSocket(packetInfo: true)
        var incoming = try ReceiveBatch(capacity: 1, slotBytes: 2_048)
        var batch = SendBatch(messageCapacity: 1, vectorCapacity: 2)
        let payload = Bytes(count: 4)
        for isOn in [true, false] {
            try UDPSocket.setPacketInfo(server.fd, isIPv4: true, isOn)
            check(batch.add(payload, to: server.address))
            #expect(batch.flush(fd: client.fd).sent == 1)
            try awaitReadable(server.fd)
            #expect(incoming.receive(fd: server.fd, at: 0, count: 1) == 1)
            #expect(incoming.local(0).isPresent == isOn)
        }
    }
}

import CLinux
import Glibc
import LinuxIO
import Testing

@Suite struct TCPSocketTests {
    private static let loopbacks = [Address.loopback, Address.loopbackV6]

    private func option(_ fd: Int32, _ level: Int32, _ name: Int32) -> Int32 {
        var value: Int32 = -1
        var length = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(fd, level, name, &value, &length) == 0 ? value : -1
    }

    @Test(arguments: loopbacks)
    func bytesGoBothWaysAndThePeerIsNamed(address: AddressParts) throws {
        let pair = try Connection(address)
        let client = try TCPSocket.localAddress(pair.client.raw)
        #expect(pair.peer == client)
        #expect(client.isIPv4 == address.isIPv4)
        #expect(try TCPSocket.localAddress(pair.server.raw) == pair.listening)
        #expect(pair.send([1, 2, 3], from: pair.client.raw) == 3)
        #expect(try pair.receive(pair.server.raw) == [1, 2, 3])
        #expect(pair.send([4], from: pair.server.raw) == 1)
        #expect(try pair.receive(pair.client.raw) == [4])
    }

    @Test func partsArriveAsOneStream() throws {
        let pair = try Connection()
        let parts: [[UInt8]] = [[1], [], [2, 3], [4, 5, 6]]
        let bytes = parts.map { part in Bytes(count: part.count) { part[$0] } }
        let buffers = bytes.map { UnsafeRawBufferPointer(start: $0.base, count: $0.count) }
        #expect(buffers.withUnsafeBufferPointer { TCPSocket.send(pair.client.raw, parts: $0) } == 6)
        #expect(try pair.receive(pair.server.raw) == [1, 2, 3, 4, 5, 6])
        #expect(TCPSocket.send(pair.client.raw, parts: UnsafeBufferPointer(start: nil, count: 0)) == 0)
    }

    @Test func partsBeyondTheMostAreLeftForAnotherCall() throws {
        let pair = try Connection()
        let byte = Bytes(count: 1)
        let part = UnsafeRawBufferPointer(start: byte.base, count: 1)
        let parts = [UnsafeRawBufferPointer](repeating: part, count: TCPSocket.partsMax + 9)
        #expect(parts.withUnsafeBufferPointer { TCPSocket.send(pair.client.raw, parts: $0) } == TCPSocket.partsMax)
    }

    @Test func nothingBlocks() throws {
        let listener = try TCPSocket.listen(on: SocketAddressStorage(Address.loopback), backlog: 1)
        var peer = Address.loopback
        #expect(TCPSocket.accept(listener.raw, peer: &peer) == -Errno.tryAgain)
        let pair = try Connection()
        let room = Bytes(count: 16)
        let buffer = UnsafeMutableRawBufferPointer(start: room.base, count: 16)
        #expect(TCPSocket.receive(pair.server.raw, into: buffer) == Int(-Errno.tryAgain))
        let much = [UInt8](repeating: 7, count: 1 << 20)
        var sent = 0
        while sent >= 0 { sent = pair.send(much, from: pair.client.raw) }
        #expect(sent == Int(-Errno.tryAgain))
        for fd in [listener.raw, pair.client.raw, pair.server.raw] {
            #expect(fcntl(fd, F_GETFL) & O_NONBLOCK != 0)
            #expect(fcntl(fd, F_GETFD) & FD_CLOEXEC != 0)
        }
    }

    @Test func eachFamilyHasItsOwnSocketOnOnePort() throws {
        let six = try TCPSocket.listen(on: SocketAddressStorage(Address.anyV6), backlog: 8)
        var address = Address.anyV4
        address.port = try TCPSocket.localAddress(six.raw).port
        let four = try TCPSocket.listen(on: SocketAddressStorage(address), backlog: 8)
        #expect(try TCPSocket.localAddress(four.raw).port == address.port)
    }

    @Test func aPortIsListenedOnOnceUnlessItIsShared() throws {
        let first = try TCPSocket.listen(on: SocketAddressStorage(Address.loopback), backlog: 8)
        let taken = SocketAddressStorage(try TCPSocket.localAddress(first.raw))
        #expect(throws: SystemCallError(number: Errno.addressInUse, call: "listen")) {
            _ = try TCPSocket.listen(on: taken, backlog: 8).release()
        }
        let one = try TCPSocket.listen(on: SocketAddressStorage(Address.loopback), backlog: 8, reusePort: true)
        let shared = SocketAddressStorage(try TCPSocket.localAddress(one.raw))
        let other = try TCPSocket.listen(on: shared, backlog: 8, reusePort: true)
        #expect(try TCPSocket.localAddress(other.raw) == shared.parts)
    }

    @Test func aPortIsListenedOnAgainWhileOldConnectionsLinger() throws {
        var address = Address.loopback
        do {
            let pair = try Connection()
            address = pair.listening
            // The side that ends first is the one that lingers in TIME_WAIT.
            try TCPSocket.shutdownWriting(pair.server.raw)
            #expect(try pair.receive(pair.client.raw) == [])
        }
        let again = try TCPSocket.listen(on: SocketAddressStorage(address), backlog: 8)
        #expect(try TCPSocket.localAddress(again.raw) == address)
    }

    @Test func connectionsAndAListenerShareOnePort() throws {
        let relay = try TCPSocket.listen(on: SocketAddressStorage(Address.loopback), backlog: 8, reusePort: true)
        let source = try TCPSocket.localAddress(relay.raw)
        let first = try Connection(from: source)
        let second = try Connection(from: source)
        #expect(first.peer == source)
        #expect(second.peer == source)
        // And it still listens.
        let caller = try TCPSocket.connect(to: SocketAddressStorage(source))
        try awaitReadable(relay.raw)
        var peer = Address.loopback
        let accepted = TCPSocket.accept(relay.raw, peer: &peer)
        try #require(accepted >= 0)
        _ = FileDescriptor(owning: accepted)
        #expect(peer == (try TCPSocket.localAddress(caller.raw)))
    }

    @Test func aSecondConnectionBetweenTheSamePairIsRefused() throws {
        let relay = try TCPSocket.listen(on: SocketAddressStorage(Address.loopback), backlog: 8, reusePort: true)
        let source = try TCPSocket.localAddress(relay.raw)
        let first = try Connection(from: source)
        #expect(throws: SystemCallError(number: Errno.addressNotAvailable, call: "connect")) {
            let listening = SocketAddressStorage(first.listening)
            _ = try TCPSocket.connect(to: listening, from: SocketAddressStorage(source)).release()
        }
    }

    @Test(arguments: loopbacks)
    func aRefusedConnectionIsToldByThePendingError(address: AddressParts) throws {
        var free = address
        do {
            let listener = try TCPSocket.listen(on: SocketAddressStorage(address), backlog: 1)
            free.port = try TCPSocket.localAddress(listener.raw).port
        }
        let client = try TCPSocket.connect(to: SocketAddressStorage(free))
        try awaitEvent(client.raw, .writable)
        #expect(TCPSocket.pendingError(client.raw) == Errno.connectionRefused)
        #expect(TCPSocket.pendingError(client.raw) == 0)
    }

    @Test func anErrorBeforeConnectingIsThrownAndLeavesNoDescriptor() throws {
        let elsewhere = SocketAddressStorage(Address.v4(192, 0, 2, 1))
        #expect(throws: SystemCallError(number: Errno.addressNotAvailable, call: "connect")) {
            let peer = SocketAddressStorage(Address.v4(127, 0, 0, 1, port: 9))
            _ = try TCPSocket.connect(to: peer, from: elsewhere).release()
        }
    }

    @Test func halfCloseEndsOneDirectionOnly() throws {
        let pair = try Connection()
        #expect(pair.send([1], from: pair.client.raw) == 1)
        try TCPSocket.shutdownWriting(pair.client.raw)
        #expect(try pair.receive(pair.server.raw) == [1])
        #expect(try pair.receive(pair.server.raw) == [])
        #expect(pair.send([2], from: pair.server.raw) == 1)
        #expect(try pair.receive(pair.client.raw) == [2])
        #expect(pair.send([3], from: pair.client.raw) == Int(-EPIPE))
    }

    @Test func abortingResetsThePeer() throws {
        let listener = try TCPSocket.listen(on: SocketAddressStorage(Address.loopback), backlog: 1)
        let client = try TCPSocket.connect(to: SocketAddressStorage(try TCPSocket.localAddress(listener.raw)))
        try awaitReadable(listener.raw)
        var peer = Address.loopback
        let accepted = TCPSocket.accept(listener.raw, peer: &peer)
        try #require(accepted >= 0)
        TCPSocket.abort(FileDescriptor(owning: accepted))
        try awaitReadable(client.raw)
        let room = Bytes(count: 1)
        let buffer = UnsafeMutableRawBufferPointer(start: room.base, count: 1)
        #expect(TCPSocket.receive(client.raw, into: buffer) == Int(-ECONNRESET))
    }

    @Test func delayAndKeepaliveAreSet() throws {
        let pair = try Connection()
        try TCPSocket.setNoDelay(pair.client.raw)
        #expect(option(pair.client.raw, Int32(IPPROTO_TCP), TCP_NODELAY) != 0)
        try TCPSocket.setNoDelay(pair.client.raw, false)
        #expect(option(pair.client.raw, Int32(IPPROTO_TCP), TCP_NODELAY) == 0)
        try TCPSocket.setKeepalive(pair.client.raw, idleSeconds: 61, intervalSeconds: 7, probes: 3)
        #expect(option(pair.client.raw, SOL_SOCKET, SO_KEEPALIVE) == 1)
        #expect(option(pair.client.raw, Int32(IPPROTO_TCP), TCP_KEEPIDLE) == 61)
        #expect(option(pair.client.raw, Int32(IPPROTO_TCP), TCP_KEEPINTVL) == 7)
        #expect(option(pair.client.raw, Int32(IPPROTO_TCP), TCP_KEEPCNT) == 3)
    }

    @Test func callsOnAClosedDescriptorAreErrors() {
        var peer = Address.loopback
        #expect(TCPSocket.accept(-1, peer: &peer) == -Errno.badDescriptor)
        #expect(TCPSocket.pendingError(-1) == Errno.badDescriptor)
        #expect(throws: SystemCallError(number: Errno.badDescriptor, call: "getsockname")) {
            _ = try TCPSocket.localAddress(-1)
        }
        #expect(throws: SystemCallError(number: Errno.badDescriptor, call: "shutdown")) {
            try TCPSocket.shutdownWriting(-1)
        }
    }
}

/// Both ends of a TCP connection on loopback.
private struct Connection: ~Copyable {
    let client: FileDescriptor
    let server: FileDescriptor
    let listening: AddressParts
    /// The client's address, as `accept` told it.
    let peer: AddressParts

    init(_ address: AddressParts = Address.loopback, from source: AddressParts? = nil) throws {
        let listener = try TCPSocket.listen(on: SocketAddressStorage(address), backlog: 8)
        let listening = try TCPSocket.localAddress(listener.raw)
        let client = try TCPSocket.connect(
            to: SocketAddressStorage(listening),
            from: source.map { SocketAddressStorage($0) }
        )
        try awaitReadable(listener.raw)
        var peer = AddressParts(high: 0, low: 0, isIPv4: true, port: 0)
        let accepted = TCPSocket.accept(listener.raw, peer: &peer)
        try #require(accepted >= 0)
        #expect(TCPSocket.pendingError(client.raw) == 0)
        server = FileDescriptor(owning: accepted)
        self.client = client
        self.listening = listening
        self.peer = peer
    }

    func send(_ bytes: [UInt8], from fd: Int32) -> Int {
        bytes.withUnsafeBytes { TCPSocket.send(fd, $0) }
    }

    /// What comes next, once something does; empty at the end of the stream.
    func receive(_ fd: Int32) throws -> [UInt8] {
        try awaitReadable(fd)
        let room = Bytes(count: 64)
        let count = TCPSocket.receive(fd, into: UnsafeMutableRawBufferPointer(start: room.base, count: 64))
        try #require(count >= 0)
        return Array(room.array[..<count])
    }
}

import Glibc
import LinuxIO
import Testing

/// In processes of their own, because they take all descriptors.
@Suite struct ReserveDescriptorTests {
    @Test func re03_connectionsThatCannotBeServedAreClosedAndTheRestServedLater() async {
        await #expect(processExitsWith: .success) {
            var reserve = try ReserveDescriptor()
            let listener = try TCPSocket.listen(on: SocketAddressStorage(Address.loopback), backlog: 16)
            let address = SocketAddressStorage(try TCPSocket.localAddress(listener.raw))
            let clients = [
                try TCPSocket.connect(to: address).release(), try TCPSocket.connect(to: address).release(),
                try TCPSocket.connect(to: address).release(),
            ]
            try awaitReadable(listener.raw)
            var hoard = try takeAllDescriptors()

            var peer = Address.loopback
            let refusal = TCPSocket.accept(listener.raw, peer: &peer)
            try #require(refusal == -Errno.tooManyDescriptors)
            try #require(Errno.isDescriptorShortage(0 - refusal))
            // Each call takes one, and the number of calls is bounded by that of the connections.
            for _ in clients { try demand(reserve.refuse(at: listener.raw) == .refused) }
            try demand(reserve.refuse(at: listener.raw) == .noneWaiting)
            try demand(reserve.isHeld)
            for client in clients {
                let room = Bytes(count: 1)
                let buffer = UnsafeMutableRawBufferPointer(start: room.base, count: 1)
                try #require(TCPSocket.receive(client, into: buffer) == Int(-ECONNRESET))
            }

            // Two numbers: for a client and for what the listener takes.
            for _ in 0..<2 { close(hoard.removeLast()) }
            let client = try TCPSocket.connect(to: address)
            var served = -Errno.tryAgain
            while served == -Errno.tryAgain { served = TCPSocket.accept(listener.raw, peer: &peer) }
            try #require(served >= 0)
            try #require(peer == (try TCPSocket.localAddress(client.raw)))
        }
    }

    @Test func re03_theLastNumbersAreForNoConnection() throws {
        let reserve = try ReserveDescriptor(limit: 256)
        #expect([239, 240, 255].map { reserve.isLast($0) } == [false, true, true])
        let few = try ReserveDescriptor(limit: 64)
        #expect([55, 56].map { few.isLast($0) } == [false, true])
    }

    @Test func re03_aReserveThatIsGoneSaysSoAndIsTakenAgain() async {
        await #expect(processExitsWith: .success) {
            let listener = try TCPSocket.listen(on: SocketAddressStorage(Address.loopback), backlog: 16)
            let address = SocketAddressStorage(try TCPSocket.localAddress(listener.raw))
            let client = try TCPSocket.connect(to: address)
            try awaitReadable(listener.raw)
            var reserve = try ReserveDescriptor()
            var hoard = try takeAllDescriptors()
            // Lowering the limit below what is open leaves no number, even after a close.
            try setDescriptorLimit(3)
            try demand(reserve.refuse(at: listener.raw) == .exhausted)
            try demand(!reserve.isHeld)
            try demand(reserve.refuse(at: listener.raw) == .exhausted)
            try setDescriptorLimit(64)
            close(hoard.removeLast())
            try demand(reserve.refuse(at: listener.raw) == .refused)
            try demand(reserve.isHeld)
            try demand(client.raw >= 0)
        }
    }
}

/// What `#require` does, for conditions on values that cannot be copied.
private func demand(_ holds: Bool, sourceLocation: SourceLocation = #_sourceLocation) throws {
    try #require(holds, sourceLocation: sourceLocation)
}

private func setDescriptorLimit(_ count: UInt) throws {
    var limit = rlimit()
    try #require(getrlimit(__rlimit_resource_t(7), &limit) == 0)
    limit.rlim_cur = rlim_t(count)
    try #require(setrlimit(__rlimit_resource_t(7), &limit) == 0)
}

/// Lowers the limit to 64 and opens descriptors up to it.
private func takeAllDescriptors() throws -> [Int32] {
    try setDescriptorLimit(64)
    var taken: [Int32] = []
    while true {
        let fd = open("/dev/null", O_RDONLY)
        if fd < 0 { break }
        taken.append(fd)
    }
    try #require(errno == EMFILE)
    try #require(taken.count > 4)
    return taken
}

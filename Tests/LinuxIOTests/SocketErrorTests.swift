import LinuxIO
import Testing

/// ICMP errors as the kernel of this machine gives them, over loopback.
@Suite struct SocketErrorTests {
    /// A socket that keeps errors.
    private func socket(_ address: AddressParts) throws -> TestSocket {
        let made = try TestSocket(address)
        try UDPSocket.setErrorQueue(made.fd, isIPv4: address.isIPv4)
        return made
    }

    /// A port where nobody listens.
    private func closedPort(_ address: AddressParts) throws -> AddressParts { try TestSocket(address).address }

    private func batch(_ count: Int, to address: AddressParts, _ payload: UnsafeRawBufferPointer) -> SendBatch {
        var batch = SendBatch(messageCapacity: 64, vectorCapacity: 128)
        var storage = SocketAddressStorage(address)
        guard let start = payload.baseAddress else { return batch }
        for _ in 0..<count {
            _ = batch.begin(to: &storage, source: .unspecified)
            _ = batch.append(start, payload.count)
        }
        return batch
    }

    @Test(arguments: [Address.loopback, Address.loopbackV6])
    func aClosedPortIsTold(_ address: AddressParts) throws {
        let socket = try self.socket(address)
        let closed = try closedPort(address)
        #expect(SocketError.take(from: socket.fd) == nil)
        let result = [UInt8](repeating: 1, count: 10).withUnsafeBytes {
            var batch = batch(1, to: closed, $0)
            return batch.flush(fd: socket.fd, hasErrorQueue: true)
        }
        #expect(result.sent == 1)
        let error = try #require(SocketError.take(from: socket.fd))
        #expect(error.destination == closed)
        #expect(error.origin == (address.isIPv4 ? .icmp : .icmp6))
        #expect(error.number == Errno.connectionRefused)
        #expect((error.type, error.code) == (address.isIPv4 ? (3, 3) : (1, 4)))
        #expect(SocketError.take(from: socket.fd) == nil)
    }

    @Test(arguments: [Address.loopback, Address.loopbackV6])
    func anErrorThatWaitsCostsNoOtherDatagram(_ address: AddressParts) throws {
        let socket = try self.socket(address)
        let closed = try closedPort(address)
        let peer = try TestSocket(address)
        [UInt8](repeating: 1, count: 10).withUnsafeBytes { payload in
            for _ in 0..<20 {
                var refused = batch(1, to: closed, payload)
                #expect(refused.flush(fd: socket.fd, hasErrorQueue: true).sent == 1)
                var others = batch(3, to: peer.address, payload)
                #expect(others.flush(fd: socket.fd, hasErrorQueue: true).sent == 3)
            }
        }
    }

    @Test func withoutBeingToldABatchTakesTheErrorForItsOwn() throws {
        let socket = try self.socket(Address.loopback)
        let closed = try closedPort(Address.loopback)
        let peer = try TestSocket(Address.loopback)
        [UInt8](repeating: 1, count: 10).withUnsafeBytes { payload in
            var refused = batch(1, to: closed, payload)
            _ = refused.flush(fd: socket.fd)
            var other = batch(1, to: peer.address, payload)
            #expect(other.flush(fd: socket.fd).lastErrno == Errno.connectionRefused)
        }
    }
}

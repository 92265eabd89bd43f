import CLinux
import Glibc
import LinuxIO
import Testing

@Suite struct UDPSocketTests {
    private func option(_ fd: Int32, _ level: Int32, _ name: Int32) -> Int32 {
        var value: Int32 = -1
        var length = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(fd, level, name, &value, &length) == 0 ? value : -1
    }

    @Test func addressSurvivesTheSocketForm() {
        let v4 = Address.v4(192, 0, 2, 7, port: 3478)
        #expect(SocketAddressStorage(v4).parts == v4)
        #expect(SocketAddressStorage(v4).length == 16)
        let v6 = AddressParts(high: 0x2001_0DB8_0102_0304, low: 0x0506_0708_090A_0B0C, isIPv4: false, port: 65_535)
        #expect(SocketAddressStorage(v6).parts == v6)
        #expect(SocketAddressStorage(v6).length == 28)
        // A v4-mapped IPv6 address stays one of family IPv6.
        let mapped = AddressParts(high: 0, low: v4.low, isIPv4: false, port: 1)
        #expect(SocketAddressStorage(mapped).parts == mapped)
    }

    @Test func socketAddressHasTheBytesOfTheWire() {
        let address = SocketAddressStorage(Address.v4(1, 2, 3, 4, port: 0x0506))
        withUnsafeBytes(of: address) { bytes in
            #expect(Array(bytes[2..<8]) == [5, 6, 1, 2, 3, 4])
        }
    }

    @Test func bindingToPortZeroTellsThePortChosen() throws {
        let first = try TestSocket()
        #expect(first.address.port != 0)
        #expect(first.address.low == Address.loopback.low)
        let second = try TestSocket(Address.loopbackV6)
        #expect(second.address.port != 0)
        #expect(second.address.isIPv4 == false)
    }

    @Test func bindingTwiceFailsUnlessThePortIsShared() throws {
        let taken = try TestSocket()
        let other = try UDPSocket.open(isIPv4: true)
        #expect(throws: SystemCallError(number: Errno.addressInUse, call: "bind")) {
            try UDPSocket.bind(other.raw, to: SocketAddressStorage(taken.address))
        }
        let first = try UDPSocket.open(isIPv4: true, reusePort: true)
        let shared = try UDPSocket.bind(first.raw, to: SocketAddressStorage(Address.loopback))
        let second = try UDPSocket.open(isIPv4: true, reusePort: true)
        #expect(try UDPSocket.bind(second.raw, to: SocketAddressStorage(shared)) == shared)
    }

    @Test func socketsNeitherBlockNorLeakNorMixFamilies() throws {
        let socket = try UDPSocket.open(isIPv4: false, reuseAddress: true)
        #expect(fcntl(socket.raw, F_GETFL) & O_NONBLOCK != 0)
        #expect(fcntl(socket.raw, F_GETFD) & FD_CLOEXEC != 0)
        #expect(option(socket.raw, Int32(IPPROTO_IPV6), IPV6_V6ONLY) == 1)
        #expect(option(socket.raw, SOL_SOCKET, SO_REUSEADDR) == 1)
        #expect(option(socket.raw, SOL_SOCKET, SO_REUSEPORT) == 0)
    }

    @Test func buffersGrowAndTheirSizeIsReported() throws {
        let socket = try UDPSocket.open(isIPv4: true)
        let received = try UDPSocket.setReceiveBuffer(socket.raw, bytes: 100_000)
        #expect(received == 200_000)
        #expect(received == Int(option(socket.raw, SOL_SOCKET, SO_RCVBUF)))
        let sent = try UDPSocket.setSendBuffer(socket.raw, bytes: 120_000)
        #expect(sent == 240_000)
        #expect(sent == Int(option(socket.raw, SOL_SOCKET, SO_SNDBUF)))
    }

    @Test(arguments: [true, false])
    func pathMTUDiscoveryIsSet(isIPv4: Bool) throws {
        let socket = try UDPSocket.open(isIPv4: isIPv4)
        let level = Int32(isIPv4 ? IPPROTO_IP : IPPROTO_IPV6)
        // IP_MTU_DISCOVER and IPV6_MTU_DISCOVER of the kernel's interface.
        let name: Int32 = isIPv4 ? 10 : 23
        for mode in [PathMTUDiscovery.do, .dont, .probe, .want] {
            try UDPSocket.setPathMTUDiscovery(socket.raw, isIPv4: isIPv4, mode)
            #expect(option(socket.raw, level, name) == mode.rawValue)
        }
    }

    @Test func optionsOnAClosedDescriptorAreErrors() {
        #expect(throws: SystemCallError(number: Errno.badDescriptor, call: "setsockopt(SO_RCVBUF)")) {
            try UDPSocket.setReceiveBuffer(-1, bytes: 1)
        }
        #expect(throws: SystemCallError(number: Errno.badDescriptor, call: "setsockopt(PKTINFO)")) {
            try UDPSocket.setPacketInfo(-1, isIPv4: true)
        }
        #expect(UDPSocket.setReceiveMerging(-1, true) == false)
    }
}

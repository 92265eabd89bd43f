import Glibc
import LinuxIO
import Testing

/// Addresses as numbers, the way the STUN layer holds them.
enum Address {
    static let mapped: UInt64 = 0x0000_FFFF_0000_0000
    static let loopback = v4(127, 0, 0, 1)
    static let anyV4 = v4(0, 0, 0, 0)
    static let anyV6 = AddressParts(high: 0, low: 0, isIPv4: false, port: 0)
    static let loopbackV6 = AddressParts(high: 0, low: 1, isIPv4: false, port: 0)

    static func v4(_ a: UInt64, _ b: UInt64, _ c: UInt64, _ d: UInt64, port: UInt16 = 0) -> AddressParts {
        AddressParts(high: 0, low: mapped | a << 24 | b << 16 | c << 8 | d, isIPv4: true, port: port)
    }
}

/// What `#expect` does, for conditions on values that cannot be copied, which the macro would try to show.
func check(_ holds: Bool, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(holds, sourceLocation: sourceLocation)
}

/// A bound socket.
struct TestSocket: ~Copyable {
    let descriptor: FileDescriptor
    let address: AddressParts

    init(_ address: AddressParts = Address.loopback, merging: Bool = false, packetInfo: Bool = false) throws {
        let opened = try UDPSocket.open(isIPv4: address.isIPv4)
        if merging { #expect(UDPSocket.setReceiveMerging(opened.raw, true)) }
        if packetInfo { try UDPSocket.setPacketInfo(opened.raw, isIPv4: address.isIPv4) }
        self.address = try UDPSocket.bind(opened.raw, to: SocketAddressStorage(address))
        descriptor = opened
    }

    var fd: Int32 { descriptor.raw }
}

/// A pair of local datagram sockets. Their queue fills up, which that of a UDP socket on loopback does not.
struct SocketPair: ~Copyable {
    let sender: FileDescriptor
    let receiver: FileDescriptor

    init() throws {
        var ends: [Int32] = [0, 0]
        try #require(socketpair(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0, &ends) == 0)
        sender = FileDescriptor(owning: ends[0])
        receiver = FileDescriptor(owning: ends[1])
    }
}

/// Bytes that stay where they are for the life of a test.
final class Bytes {
    let base: UnsafeMutablePointer<UInt8>
    let count: Int

    init(count: Int, _ byte: (Int) -> UInt8 = { UInt8(truncatingIfNeeded: $0 &* 31) }) {
        self.count = count
        base = .allocate(capacity: max(count, 1))
        for index in 0..<count { base[index] = byte(index) }
    }

    var array: [UInt8] { Array(UnsafeBufferPointer(start: base, count: count)) }

    deinit {
        base.deallocate()
    }
}

/// The datagrams in a batch, cut where the kernel merged them.
func datagrams(_ batch: borrowing ReceiveBatch, slots: Range<Int>) -> [[UInt8]] {
    var all: [[UInt8]] = []
    for slot in slots {
        var offset = 0
        let length = batch.length(slot)
        if length == 0 { all.append([]) }
        while offset < length {
            let size = min(batch.segmentBytes(slot), length - offset)
            all.append(Array(UnsafeBufferPointer(start: batch.payload(slot) + offset, count: size)))
            offset += size
        }
    }
    return all
}

/// Waits until the socket can be read; a test that waits longer has failed.
func awaitReadable(_ fd: Int32) throws {
    try awaitEvent(fd, .readable)
}

func awaitEvent(_ fd: Int32, _ event: EpollEvents) throws {
    let epoll = try Epoll()
    let buffer = EventBuffer(capacity: 1)
    try epoll.add(fd, event, data: 0)
    try #require(epoll.wait(into: buffer, timeoutMilliseconds: 5_000) == 1)
}

extension SendBatch {
    /// Adds one datagram of a run with no header.
    mutating func add(_ bytes: Bytes, length: Int? = nil, to: AddressParts, flow: UInt64 = 1) -> Bool {
        var address = SocketAddressStorage(to)
        return addRun(
            to: &address,
            source: .unspecified,
            header: nil,
            headerLength: 0,
            payload: bytes.base,
            length: length ?? bytes.count,
            flowKey: flow,
            allowSegments: true
        )
    }
}

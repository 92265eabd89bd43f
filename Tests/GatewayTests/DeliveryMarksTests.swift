import Foundation
import Testing

@testable import Gateway

struct DeliveryMarksTests {
    @Test func aMessageHasArrivedWithItsLastByte() {
        var marks = DeliveryMarks()
        marks.append(sequence: 1, endsAt: 100)
        marks.append(sequence: 4, endsAt: 250)
        marks.append(sequence: 5, endsAt: 251)
        #expect(!marks.isAny(within: 99) && marks.isAny(within: 100))
        var arrived: [UInt64] = []
        for bytes: UInt64 in [0, 99, 100, 249, 250, 251, 10] {
            marks.acknowledge(bytes: bytes)
            arrived.append(marks.deliveredThrough)
        }
        #expect(arrived == [0, 0, 1, 1, 4, 5, 5])
        #expect(marks.isEmpty)
    }

    @Test func whatTheClientConfirmedNeedsNoMark() {
        var marks = DeliveryMarks()
        for number in 1...6 as ClosedRange<UInt64> { marks.append(sequence: number, endsAt: number * 10) }
        marks.confirm(through: 3)
        #expect(marks.deliveredThrough == 3 && !marks.isAny(within: 39))
        marks.acknowledge(bytes: 45)
        #expect(marks.deliveredThrough == 4)
        marks.confirm(through: .max)
        #expect(marks.deliveredThrough == 6 && marks.isEmpty)
    }

    @Test func numbersThatBeginAnewHaveNothingOfThoseBefore() {
        var marks = DeliveryMarks()
        marks.append(sequence: 9, endsAt: 100)
        marks.append(sequence: 12, endsAt: 200)
        marks.acknowledge(bytes: 150)
        marks.restart()
        marks.acknowledge(bytes: 1_000)
        #expect(marks.deliveredThrough == 0)
        marks.append(sequence: 1, endsAt: 1_100)
        marks.acknowledge(bytes: 1_100)
        #expect(marks.deliveredThrough == 1)
    }

    /// A client that acknowledges nothing costs no more memory, and where it stopped is known to the message.
    @Test func marksAreBoundedAndTheOldestStay() {
        var marks = DeliveryMarks()
        let count = UInt64(GatewayLimits.deliveryMarks)
        for number in 1...count * 2 { marks.append(sequence: number, endsAt: number * 10) }
        #expect(marks.isFull)
        marks.acknowledge(bytes: 175)
        #expect(marks.deliveredThrough == 17 && !marks.isFull)
        marks.acknowledge(bytes: (count - 1) * 10)
        #expect(marks.deliveredThrough == count - 1)
        // The newest have arrived together or not.
        marks.acknowledge(bytes: count * 20 - 1)
        #expect(marks.deliveredThrough == count - 1)
        marks.acknowledge(bytes: count * 20)
        #expect(marks.deliveredThrough == count * 2)
    }

    @Test func theKernelTellsHowMuchWasAcknowledgedAlsoAfterAReset() throws {
        let pair = try TCPPair()
        #expect(TCPInformation.acknowledgedBytes(pair.accepted) == 0)
        #expect(send(pair.accepted, Array(repeating: 7, count: 5_000), 5_000, 0) == 5_000)
        #expect(pair.waits { TCPInformation.acknowledgedBytes(pair.accepted) == 5_000 })
        // Unread input and a lingering time of nothing make a close a reset.
        pair.reset()
        var byte: UInt8 = 0
        #expect(recv(pair.accepted, &byte, 1, 0) == -1 && errno == ECONNRESET)
        #expect(TCPInformation.acknowledgedBytes(pair.accepted) == 5_000)
    }

    @Test func whatIsNoTCPSocketTellsNothing() {
        #expect(TCPInformation.acknowledgedBytes(-1) == nil)
        var ends: [CInt] = [-1, -1]
        #expect(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) == 0)
        #expect(TCPInformation.acknowledgedBytes(ends[0]) == nil)
        for end in ends { close(end) }
    }
}

/// Two ends of a TCP connection over loopback.
private final class TCPPair {
    let accepted: CInt
    private var connected: CInt

    init() throws {
        let listener = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        defer { close(listener) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let connected = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        let isConnected = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(listener, address, length) == 0 && listen(listener, 1) == 0
                    && getsockname(listener, address, &length) == 0 && connect(connected, address, length) == 0
            }
        }
        try #require(isConnected)
        self.connected = connected
        accepted = accept(listener, nil, nil)
        try #require(accepted >= 0)
    }

    deinit {
        close(accepted)
        if connected >= 0 { close(connected) }
    }

    func reset() {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(connected, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        close(connected)
        connected = -1
    }

    /// Whether it becomes so.
    func waits(_ isSo: () -> Bool) -> Bool {
        for _ in 0..<2_000 {
            if isSo() { return true }
            usleep(5_000)
        }
        return false
    }
}

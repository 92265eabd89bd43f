import DataChannels
import Glibc

/// One end of a transfer between two processes: the one sends as much as it can, the other counts.
final class Throughput {
    private let link: DatagramSocket
    private let association: DataChannelAssociation
    private let isSource: Bool
    private let message = [UInt8](repeating: 7, count: 16_384)
    private var channel: UInt16?
    private var arrived = 0
    private var sentPackets = 0
    private var isOver = false

    /// - Parameter port: of the end that counts, for the one that sends.
    init(port: UInt16?) throws {
        link = try DatagramSocket(port: port)
        isSource = port != nil
        association = try DataChannelAssociation(isSource ? .client : .server, wake: {})
        if !isSource { say("\(link.port)") }
    }

    func run(seconds: UInt64 = 5) throws {
        try association.connect()
        if isSource { channel = try association.openChannel(.init(label: "throughput")).id }
        let start = monotonicNanoseconds()
        var first: UInt64?
        while !isOver {
            link.wait(milliseconds: 5)
            SCTPStack.shared.advance(to: monotonicNanoseconds())
            var packets = 0
            while packets < Self.packetsOfATurn, link.receive({ association.receive($0) }) { packets += 1 }
            if let channel {
                while message.withUnsafeBytes({ association.send($0, on: channel) }) == .sent {}
            }
            association.drain(sending: send, handling: handle)
            if first == nil, arrived > 0 { first = monotonicNanoseconds() }
            if isSource, channel != nil, monotonicNanoseconds() - start > seconds * 1_000_000_000 {
                channel = nil
                association.shutdown()
                association.drain(sending: send, handling: handle)
            }
        }
        let busy = monotonicNanoseconds(CLOCK_PROCESS_CPUTIME_ID) / 1_000_000
        if isSource { return print("source: \(sentPackets) packets, \(busy) ms of processor time") }
        let time = max(1, monotonicNanoseconds() - (first ?? start))
        let rate = Double(arrived) * 8_000 / Double(time)
        print("sink: \(Int(rate)) Mbit/s, \(sentPackets) packets, \(busy) ms of processor time")
    }

    private func send(_ packet: UnsafeRawBufferPointer) {
        sentPackets += 1
        link.send(packet)
    }

    private func handle(_ event: DataChannelEvent) {
        switch event {
        case .message(_, let bytes, _): arrived += bytes.count
        case .closed(let reason):
            say("closed \(reason)")
            isOver = true
        default: break
        }
    }

    private static let packetsOfATurn = 128
}

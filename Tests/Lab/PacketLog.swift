import STUN

/// What became of every packet of a run: the counts of all, and the last ones themselves.
package final class PacketLog {
    package enum Event: Equatable {
        case sent, duplicated, translated, arrived
        case dropped(Drop)
    }

    package struct Entry {
        package let time: UInt64
        package let event: Event
        /// The host, router or link.
        package let place: String
        package let packet: Packet

        package var text: String {
            let microseconds = (time - Scheduler.start) / 1_000
            let fraction = String(microseconds % 1_000_000)
            let clock = "\(microseconds / 1_000_000)." + String(repeating: "0", count: 6 - fraction.count) + fraction
            let padding = String(repeating: " ", count: max(0, 12 - clock.count))
            let what =
                switch event {
                case .sent: "sent by"
                case .duplicated: "doubled on"
                case .translated: "through"
                case .arrived: "arrived at"
                case .dropped(let reason): "LOST (\(reason.rawValue)) at"
                }
            return "\(padding)\(clock) #\(packet.number) \(what) \(place)  \(packet.text)"
        }
    }

    package private(set) var sent: UInt64 = 0
    package private(set) var duplicated: UInt64 = 0
    package private(set) var arrived: UInt64 = 0
    package private(set) var dropped: [Drop: UInt64] = [:]
    /// Packets on a link.
    package internal(set) var inFlight = 0
    /// A number that any difference between two runs changes: FNV-1a over time, event, addresses and bytes.
    package private(set) var digest: UInt64 = 0xCBF2_9CE4_8422_2325
    /// How many entries are kept.
    package var capacity = 512
    /// Sees every entry as it is made.
    package var observe: ((Entry) -> Void)?

    private var entries: [Entry] = []
    private var oldest = 0

    /// The last entries, the oldest first.
    package func last(_ count: Int) -> [Entry] {
        Array((entries[oldest...] + entries[..<oldest]).suffix(count))
    }

    /// The last entries as lines.
    package func text(last count: Int) -> String { last(count).map(\.text).joined(separator: "\n") }

    package func dropped(_ reason: Drop) -> UInt64 { dropped[reason, default: 0] }

    package var droppedTotal: UInt64 { dropped.values.reduce(0, +) }

    /// Nothing is lost but for a reason: every packet that was sent has arrived, was dropped, or is on its way.
    package var isConserved: Bool { sent + duplicated == arrived + droppedTotal + UInt64(max(0, inFlight)) }

    func note(_ event: Event, _ packet: Packet, at place: String, time: UInt64) {
        switch event {
        case .sent: sent += 1
        case .duplicated: duplicated += 1
        case .translated: break
        case .arrived: arrived += 1
        case .dropped(let reason): dropped[reason, default: 0] += 1
        }
        mix(time, event, packet)
        let entry = Entry(time: time, event: event, place: place, packet: packet)
        observe?(entry)
        if entries.count < capacity {
            entries.append(entry)
        } else {
            entries[oldest] = entry
            oldest = (oldest + 1) % entries.count
        }
    }

    private func mix(_ time: UInt64, _ event: Event, _ packet: Packet) {
        let code: UInt64 =
            switch event {
            case .sent: 1
            case .duplicated: 2
            case .translated: 3
            case .arrived: 4
            case .dropped(let reason): 5 + UInt64(Drop.allCases.firstIndex(of: reason) ?? 0)
            }
        mix(time)
        mix(code)
        mix(packet.source)
        mix(packet.destination)
        switch packet.body {
        case .datagram(let bytes): mix(bytes)
        case .segment(let segment):
            mix(UInt64(segment.flags.rawValue))
            mix(segment.sequence)
            mix(segment.payload)
        case .problem(let problem): mix(UInt64(problem.destination.port))
        }
    }

    private func mix(_ end: Endpoint) {
        mix(end.address.high)
        mix(end.address.low)
        mix(UInt64(end.port))
    }

    private func mix(_ bytes: [UInt8]) {
        mix(UInt64(bytes.count))
        bytes.withUnsafeBytes { buffer in
            var offset = 0
            while offset + 8 <= buffer.count {
                mix(buffer.uint64(at: offset))
                offset += 8
            }
            while offset < buffer.count {
                mix(UInt64(buffer[offset]))
                offset += 1
            }
        }
    }

    private func mix(_ word: UInt64) { digest = (digest ^ word) &* 0x100_0000_01B3 }
}

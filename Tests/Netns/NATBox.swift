import Lab
import LinuxIO
import STUN

/// A NAT between two devices, by the tables of the virtual laboratory's: what a home's hosts send comes in at one, and
/// the world's answers at the other.
package struct NATBox: ~Copyable {
    package private(set) var counters = NATCounters()

    private let inside: Tunnel
    private let outside: Tunnel
    private let translator: Translator
    private let firewall: Firewall
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)

    package init(inside: String, outside: String, _ setup: NATSetup, seed: UInt64) throws(SystemCallError) {
        let first = try Tunnel(inside, .ip)
        let second = try Tunnel(outside, .ip)
        self.inside = first
        self.outside = second
        translator = Translator(
            setup.behavior,
            publicAddresses: setup.addresses,
            dice: Dice(seed: seed, for: "nat")
        )
        firewall = setup.firewall
    }

    /// To be waited for.
    package var descriptors: [Int32] { [inside.raw, outside.raw] }

    /// Forgets all mappings, as after a restart.
    package mutating func reboot() { translator.reset(publicAddresses: translator.publicAddresses) }

    package func mappingCount() -> Int { translator.mappingCount(MonotonicClock.nanoseconds()) }

    /// Translates what has come.
    package mutating func work() {
        guard let base = buffer.baseAddress else { return }
        for _ in 0..<64 {
            guard let count = inside.read(into: base, capacity: buffer.count) else { break }
            fromInside(UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]))
        }
        for _ in 0..<64 {
            guard let count = outside.read(into: base, capacity: buffer.count) else { break }
            fromOutside(UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]))
        }
    }

    private mutating func fromInside(_ bytes: UnsafeMutableRawBufferPointer) {
        counters.fromInside += 1
        guard let real = IPv4Packet(bytes) else { return counters.malformed += 1 }
        var packet = real.packet
        guard firewall.passes(packet.transport, remotePort: packet.destination.port) else {
            return counters.dropped += 1
        }
        let now = MonotonicClock.nanoseconds()
        if translator.publicAddresses.contains(packet.destination.address) {
            guard case .pass = translator.hairpin(&packet, now: now) else { return counters.dropped += 1 }
            real.rewrite(as: packet)
            counters.hairpinned += 1
            write(UnsafeRawBufferPointer(real.bytes), to: .inside)
        } else {
            guard case .pass = translator.outbound(&packet, now: now) else { return counters.dropped += 1 }
            real.rewrite(as: packet)
            write(UnsafeRawBufferPointer(real.bytes), to: .outside)
        }
    }

    private mutating func fromOutside(_ bytes: UnsafeMutableRawBufferPointer) {
        counters.fromOutside += 1
        guard let real = IPv4Packet(bytes) else { return counters.malformed += 1 }
        var packet = real.packet
        guard firewall.passes(packet.transport, remotePort: packet.source.port) else { return counters.dropped += 1 }
        switch translator.inbound(&packet, now: MonotonicClock.nanoseconds()) {
        case .pass:
            real.rewrite(as: packet)
            write(UnsafeRawBufferPointer(real.bytes), to: .inside)
        case .drop:
            counters.dropped += 1
            guard let transport = packet.transport, translator.behavior.unsolicited(transport) == .reject,
                let answer = Refusal.answer(to: real)
            else { return }
            counters.refused += 1
            answer.withUnsafeBytes { write($0, to: .outside) }
        }
    }

    private enum Side {
        case inside, outside
    }

    private mutating func write(_ bytes: UnsafeRawBufferPointer, to side: Side) {
        guard let base = bytes.baseAddress else { return }
        let isWritten =
            switch side {
            case .inside: inside.write(base, count: bytes.count)
            case .outside: outside.write(base, count: bytes.count)
            }
        if !isWritten { counters.unwritten += 1 }
    }

    deinit { buffer.deallocate() }
}

package struct NATCounters: Sendable {
    package var fromInside = 0
    package var fromOutside = 0
    package var hairpinned = 0
    /// By the NAT's rules, or the firewall's; some of these were answered.
    package var dropped = 0
    package var refused = 0
    /// Fragments, other protocols and what is no whole packet.
    package var malformed = 0
    /// The device was down.
    package var unwritten = 0
}

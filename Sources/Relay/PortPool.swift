import LinuxIO
import OpenSSLCrypto
import STUN
import Synchronization
import TURN

/// The relay ports of all workers. It is asked when an allocation is made or ends; a packet asks it only whether a peer
/// on this very host is a relay.
final class PortPool: Sendable {
    private struct Reservation {
        var leg: RelayLeg
        var untilNanoseconds: UInt64
    }

    private struct Closing {
        var relay: Endpoint
        var nanoseconds: UInt64
    }

    private struct State {
        var addresses: [AddressPorts]
        /// The last ones, in a ring.
        var closings: [Closing] = []
        var nextClosing = 0
        var reservations: [UInt64: Reservation] = [:]
    }

    private let state: Mutex<State>
    private let live: LivePorts
    /// Relays by TCP. A number is one relay's, by one transport.
    private let liveStreams: LivePorts

    init(_ addresses: [RelayAddress], _ ports: ClosedRange<UInt16>) {
        state = Mutex(State(addresses: addresses.map { AddressPorts($0, ports) }))
        live = LivePorts(addresses)
        liveStreams = LivePorts(addresses)
    }

    enum Taken {
        /// A free port on that address, which is now taken.
        case port(UInt16, RelayAddress, index: Int)
        case familyUnavailable
        case exhausted
    }

    /// Takes a random free port, on the address the client already reached where that is one of ours.
    ///
    /// - Parameter refused: ports that another program turned out to hold; they are not given again.
    func take(
        _ family: AddressFamily,
        near address: IPAddress,
        parity: RelayRequest.Parity,
        isStream: Bool = false,
        refused: Set<UInt16>
    ) -> Taken {
        state.withLock { state in
            let candidates = state.addresses.indices.filter { state.addresses[$0].address.advertised.family == family }
            guard let first = candidates.first else { return .familyUnavailable }
            let index = candidates.first { state.addresses[$0].address.local == address } ?? first
            guard let port = state.addresses[index].take(parity, refused) else { return .exhausted }
            (isStream ? liveStreams : live).set(index, port, true)
            return .port(port, state.addresses[index].address, index: index)
        }
    }

    /// For each address, how many ports are taken, and how many there are.
    func occupancy() -> [(address: RelayAddress, taken: Int, total: Int)] {
        state.withLock { $0.addresses.map { ($0.address, $0.takenCount, $0.count) } }
    }

    /// Takes that port, if it is free.
    func take(exactly port: UInt16, on index: Int) -> Bool {
        state.withLock { state in
            guard state.addresses[index].take(exactly: port) else { return false }
            live.set(index, port, true)
            return true
        }
    }

    /// - Parameter nanoseconds: the time, where something may have left the port.
    func release(_ local: Endpoint, at nanoseconds: UInt64? = nil) {
        state.withLock { state in
            guard let index = state.addresses.firstIndex(where: { $0.address.local == local.address }) else { return }
            state.addresses[index].release(local.port)
            // Before the port is seen to be closed.
            if let nanoseconds { Self.note(Closing(relay: local, nanoseconds: nanoseconds), &state) }
            live.set(index, local.port, false)
            liveStreams.set(index, local.port, false)
        }
    }

    /// Whether a relay is open there, at its inside or its outside address. Takes no lock: two peers that both stand
    /// behind this relay ask it for every packet.
    func isLive(_ endpoint: Endpoint) -> Bool { live.contains(endpoint) }

    /// The same for relays by TCP.
    func isLiveStream(_ endpoint: Endpoint) -> Bool { liveStreams.contains(endpoint) }

    private static func note(_ closing: Closing, _ state: inout State) {
        guard state.closings.count == Self.closingsKept else { return state.closings.append(closing) }
        state.closings[state.nextClosing] = closing
        state.nextClosing = (state.nextClosing + 1) % Self.closingsKept
    }

    /// Whether a relay was open there until a moment ago. A worker may read what another's client has sent after that
    /// one has closed the relay, and the last words of a connection would be lost. Only what comes from a port of this
    /// host that is no relay gets here, so a lock is no harm.
    func hasJustClosed(_ endpoint: Endpoint, at nanoseconds: UInt64) -> Bool {
        state.withLock { state in
            state.closings.contains { closing in
                closing.relay.port == endpoint.port && nanoseconds < closing.nanoseconds &+ Self.closingTime
                    && state.addresses.contains {
                        $0.address.local == closing.relay.address
                            && ($0.address.advertised == endpoint.address || $0.address.local == endpoint.address)
                    }
            }
        }
    }

    /// What a worker that is busy leaves in a socket's buffer is read within a second.
    private static let closingTime: UInt64 = 1_000_000_000
    /// Where more end within a second, the last words of some are lost.
    private static let closingsKept = 256

    /// Holds an open relay for whoever shows the token.
    func reserve(_ leg: RelayLeg, untilNanoseconds: UInt64) -> UInt64 {
        state.withLock { state in
            var token: UInt64 = 0
            while token == 0 || state.reservations[token] != nil {
                withUnsafeMutableBytes(of: &token) { SecureRandom.fill($0) }
            }
            state.reservations[token] = Reservation(leg: leg, untilNanoseconds: untilNanoseconds)
            return token
        }
    }

    /// Gives a held relay out, once.
    func claim(_ token: UInt64, at nanoseconds: UInt64) -> RelayLeg? {
        state.withLock { state in
            guard let held = state.reservations[token], held.untilNanoseconds > nanoseconds else { return nil }
            state.reservations[token] = nil
            return held.leg
        }
    }

    /// Forgets reservations whose time has passed, and returns their relays, which the caller closes.
    func expired(at nanoseconds: UInt64) -> [RelayLeg] {
        state.withLock { state in
            let old = state.reservations.filter { $0.value.untilNanoseconds <= nanoseconds }
            for token in old.keys { state.reservations[token] = nil }
            return old.values.map(\.leg)
        }
    }
}

/// The ports of one address: a list of the free ones, so that a random one is found in one step however few are left.
struct AddressPorts {
    let address: RelayAddress
    private let first: UInt16
    private var free: [UInt16]
    /// Where each port stands in `free`, or -1 when it is taken.
    private var positions: [Int32]

    var count: Int { positions.count }
    var takenCount: Int { positions.count - free.count }

    init(_ address: RelayAddress, _ ports: ClosedRange<UInt16>) {
        self.address = address
        first = ports.lowerBound
        free = Array(ports)
        positions = (0..<Int32(ports.count)).map { $0 }
    }

    /// RFC 8656 section 7.2 asks for ports that cannot be guessed (RFC 6056).
    mutating func take(_ parity: RelayRequest.Parity, _ refused: Set<UInt16>) -> UInt16? {
        guard !free.isEmpty else { return nil }
        let start = Int.random(in: 0..<free.count)
        for step in 0..<free.count {
            let port = free[(start + step) % free.count]
            if !refused.contains(port), fits(port, parity) {
                _ = take(exactly: port)
                return port
            }
        }
        return nil
    }

    mutating func take(exactly port: UInt16) -> Bool {
        guard let position = position(port), position >= 0 else { return false }
        let last = free[free.count - 1]
        free[Int(position)] = last
        positions[Int(last - first)] = position
        free.removeLast()
        positions[Int(port - first)] = -1
        return true
    }

    mutating func release(_ port: UInt16) {
        guard position(port) == -1 else { return }
        positions[Int(port - first)] = Int32(free.count)
        free.append(port)
    }

    private func position(_ port: UInt16) -> Int32? {
        guard port >= first, Int(port - first) < positions.count else { return nil }
        return positions[Int(port - first)]
    }

    private func fits(_ port: UInt16, _ parity: RelayRequest.Parity) -> Bool {
        switch parity {
        case .any, .reserved: true
        case .even: port.isMultiple(of: 2)
        case .evenReservingNext: port.isMultiple(of: 2) && port < .max && (position(port + 1) ?? -1) >= 0
        }
    }
}

import STUN
import TURN

/// The relayed transport addresses of a server, and its timers: what the engine asks of the world.
final class RelaySockets: RelayHost {
    private struct Relay {
        var socket: UDPSocket
        var leg: RelayLeg
        var allocation: UInt32
    }

    private struct Reservation {
        var family: AddressFamily
        var port: UInt16
        var until: UInt64
    }

    weak var server: RelayServer?
    private let host: Host
    private let ports: ClosedRange<UInt16>
    private var open: [Int32: Relay] = [:]
    private var live: Set<Endpoint> = []
    private var reservations: [UInt64: Reservation] = [:]
    private var expirySeconds: [UInt32: UInt64] = [:]
    private var lastDescriptor: Int32 = 2
    /// What the server's one worker tells itself of clients that move, not yet delivered.
    var moves: [MoveMessage] = []
    /// Tells the timers of a server from those of the one that ran before it.
    private var epoch = 0

    init(_ host: Host, _ ports: ClosedRange<UInt16>) {
        self.host = host
        self.ports = ports
    }

    func socket(_ descriptor: Int32) -> UDPSocket? { open[descriptor]?.socket }

    func closeAll() {
        for relay in open.values { relay.socket.close() }
        (open, live, reservations, expirySeconds) = ([:], [], [:], [:])
        moves = []
        epoch += 1
    }

    func openRelay(_ request: RelayRequest) -> RelayOpening {
        guard !request.isStream else { return .exhausted }
        if case .reserved(let token) = request.parity {
            guard let held = reservations.removeValue(forKey: token), held.until > host.now else { return .exhausted }
            return opened(request, held.port, held.family).map { .opened($0, token: 0) } ?? .exhausted
        }
        guard host.address(request.family) != nil else { return .familyUnavailable }
        for _ in 0..<1_000 {
            var port = host.dice.port(ports)
            if request.parity != .any { port &= ~1 }
            guard ports.contains(port), !isHeld(port), let leg = opened(request, port, request.family) else { continue }
            guard request.parity == .evenReservingNext else { return .opened(leg, token: 0) }
            if port < ports.upperBound, !isHeld(port + 1) {
                let token = host.dice.next() | 1
                let until = host.now + Limits.reservationLifetimeSeconds * 1_000_000_000
                reservations[token] = Reservation(family: request.family, port: port + 1, until: until)
                return .opened(leg, token: token)
            }
            closeRelay(leg)
        }
        return .exhausted
    }

    private func isHeld(_ port: UInt16) -> Bool {
        reservations.values.contains { $0.port == port && $0.until > host.now }
    }

    private func opened(_ request: RelayRequest, _ port: UInt16, _ family: AddressFamily) -> RelayLeg? {
        // The address that the client reached, where it is of the family.
        let own = request.clientSide.family == family ? request.clientSide : host.address(family)
        guard let address = own, let socket = host.udp(port: port, at: address) else { return nil }
        lastDescriptor += 1
        let descriptor = lastDescriptor
        let local = Endpoint(address, port)
        let leg = RelayLeg(descriptor: lastDescriptor, local: local, advertised: local)
        open[lastDescriptor] = Relay(socket: socket, leg: leg, allocation: request.allocation)
        live.insert(local)
        socket.onReceive = { [unowned self] in if let owner = owner(descriptor) { server?.take($0, for: owner) } }
        socket.onProblem = { [unowned self] in if let owner = owner(descriptor) { server?.take($0, for: owner) } }
        return leg
    }

    /// The allocation that has this relay now.
    private func owner(_ descriptor: Int32) -> UInt32? { open[descriptor]?.allocation }

    func closeRelay(_ leg: RelayLeg) {
        guard let relay = open.removeValue(forKey: leg.descriptor) else { return }
        relay.socket.close()
        live.remove(relay.leg.local)
    }

    func isLiveRelay(_ endpoint: Endpoint) -> Bool { live.contains(endpoint) }

    func scheduleExpiry(allocation: UInt32, atSecond second: UInt64) {
        expirySeconds[allocation] = second == .max ? nil : second
        guard second != .max else { return }
        let epoch = epoch
        host.internet.scheduler.at(second &* 1_000_000_000) { [weak self] in
            guard let self, self.epoch == epoch, expirySeconds[allocation] == second else { return }
            expirySeconds[allocation] = nil
            server?.expire(allocation)
        }
    }

    func report(_ event: AllocationEvent) {}

    // There is no relayed TCP, and one worker, which takes what it has given away.
    func isLiveStreamRelay(_ endpoint: Endpoint) -> Bool { false }
    func disownRelay(_ leg: RelayLeg) {}
    func send(_ message: MoveMessage, to worker: Int) { moves.append(message) }

    func adoptRelay(_ leg: RelayLeg, allocation: UInt32, isSecondary: Bool) -> Bool {
        guard open[leg.descriptor] != nil else { return false }
        open[leg.descriptor]?.allocation = allocation
        return true
    }
}

/// A client's connection: cuts its bytes into frames with the real framer.
final class RelayStream {
    let connection: TCPConnection
    private var unread: [UInt8] = []
    private var hasFramed = false

    init(_ connection: TCPConnection) { self.connection = connection }

    func take(_ bytes: [UInt8], wide: Bool, _ frame: ([UInt8]) -> Void) {
        unread += bytes
        while connection.state == .established {
            let outcome = unread.withUnsafeBytes {
                StreamFramer.next($0, isFirst: !hasFramed, acceptsWideChannels: wide)
            }
            switch outcome {
            case .frame(let length, let consumed):
                hasFramed = true
                let message = Array(unread.prefix(length))
                unread.removeFirst(consumed)
                frame(message)
            case .incomplete: return
            case .desynchronised: return connection.abort()
            }
        }
    }
}

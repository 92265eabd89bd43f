import STUN
import TURN
import TestSupport

/// The relay sockets and the timer of a world without a kernel: a pool of ports for each family, reservations that
/// lapse, and a list of what was asked for.
final class FakeRelays: RelayHost {
    struct Address {
        var inside: IPAddress
        var advertised: IPAddress
    }

    struct Reservation {
        var family: AddressFamily
        var port: UInt16
        var untilNanoseconds: UInt64
    }

    var addresses: [AddressFamily: Address] = [
        .ipv4: Address(inside: IPAddress("203.0.113.5"), advertised: IPAddress("203.0.113.5"))
    ]
    var ports: ClosedRange<UInt16> = 49_152...65_535
    var nowNanoseconds: UInt64 = 0
    private(set) var open: [Int32: (leg: RelayLeg, request: RelayRequest)] = [:]
    private(set) var reservations: [UInt64: Reservation] = [:]
    private(set) var timers: [UInt32: UInt64] = [:]
    private(set) var events: [AllocationEvent] = []
    private(set) var requests: [RelayRequest] = []
    private(set) var openings = 0
    private(set) var closings = 0
    /// Closings of what was not open.
    private(set) var strayClosings = 0
    /// Takes what the engine says to other workers.
    var onMessage: (MoveMessage, Int) -> Void = { _, _ in }
    private let handover: Handover
    private var taken: Set<UInt32> = []
    private var generator = SeededGenerator(seed: 42)

    /// Relays that one worker has given away and another will adopt; and the numbers of descriptors, which all share.
    final class Handover {
        var relays: [Int32: RelayRequest] = [:]
        var nextDescriptor: Int32 = 10
    }

    init(_ handover: Handover = Handover()) { self.handover = handover }

    func disownRelay(_ leg: RelayLeg) {
        guard let relay = open.removeValue(forKey: leg.descriptor) else {
            strayClosings += 1
            return
        }
        handover.relays[leg.descriptor] = relay.request
    }

    func adoptRelay(_ leg: RelayLeg, allocation: UInt32, isSecondary: Bool) -> Bool {
        guard var request = handover.relays.removeValue(forKey: leg.descriptor) else { return false }
        request.allocation = allocation
        open[leg.descriptor] = (leg, request)
        return true
    }

    func send(_ message: MoveMessage, to worker: Int) { onMessage(message, worker) }

    func openRelay(_ request: RelayRequest) -> RelayOpening {
        requests.append(request)
        dropLapsedReservations()
        if case .reserved(let token) = request.parity {
            guard let held = reservations.removeValue(forKey: token) else { return .exhausted }
            return opened(held.family, held.port, request, token: 0)
        }
        guard addresses[request.family] != nil else { return .familyUnavailable }
        // With most ports free, one drawn at random is; the list of all free ones costs too much for thousands.
        if request.parity == .any, reservations.isEmpty {
            for _ in 0..<64 {
                let port = UInt16.random(in: ports, using: &generator)
                if !taken.contains(Self.key(request.family, port)) {
                    return opened(request.family, port, request, token: 0)
                }
            }
        }
        let free = freePorts(request.family)
        let candidates: [UInt16]
        switch request.parity {
        case .any, .reserved: candidates = free
        case .even: candidates = free.filter { $0 % 2 == 0 }
        case .evenReservingNext:
            let all = Set(free)
            candidates = free.filter { $0 % 2 == 0 && $0 < .max && all.contains($0 + 1) }
        }
        guard let port = candidates.randomElement(using: &generator) else { return .exhausted }
        var token: UInt64 = 0
        if request.parity == .evenReservingNext {
            token = generator.next() | 1
            reservations[token] = Reservation(
                family: request.family,
                port: port + 1,
                untilNanoseconds: nowNanoseconds + Limits.reservationLifetimeSeconds * 1_000_000_000
            )
        }
        return opened(request.family, port, request, token: token)
    }

    func closeRelay(_ leg: RelayLeg) {
        let wasOpen = open.removeValue(forKey: leg.descriptor) != nil
        let isOpen = wasOpen || handover.relays.removeValue(forKey: leg.descriptor) != nil
        if !isOpen { strayClosings += 1 }
        taken.remove(Self.key(leg.local.family, leg.local.port))
        closings += 1
    }

    func isLiveRelay(_ endpoint: Endpoint) -> Bool {
        open.values.contains { $0.leg.advertised == endpoint && !$0.request.isStream }
    }

    func isLiveStreamRelay(_ endpoint: Endpoint) -> Bool {
        open.values.contains { $0.leg.advertised == endpoint && $0.request.isStream }
    }

    func scheduleExpiry(allocation: UInt32, atSecond second: UInt64) {
        timers[allocation] = second == .max ? nil : second
    }

    func report(_ event: AllocationEvent) { events.append(event) }

    /// Takes the timer that comes first, if it comes by then.
    func takeTimer(by nanoseconds: UInt64) -> (allocation: UInt32, second: UInt64)? {
        guard let first = timers.min(by: { ($0.value, $0.key) < ($1.value, $1.key) }),
            first.value <= nanoseconds / 1_000_000_000
        else { return nil }
        timers[first.key] = nil
        return (first.key, first.value)
    }

    /// Ports that an Allocate could have now.
    func freePorts(_ family: AddressFamily) -> [UInt16] {
        dropLapsedReservations()
        let held = reservations.values.filter { $0.family == family }.map(\.port)
        let used = Set(open.values.filter { $0.leg.local.family == family }.map(\.leg.local.port) + held)
        return ports.filter { !used.contains($0) }
    }

    var ended: [(summary: AllocationSummary, end: AllocationEnd)] {
        events.compactMap { if case .ended(let summary, let end) = $0 { (summary, end) } else { nil } }
    }

    var madeCount: Int { events.count - ended.count }

    private func opened(
        _ family: AddressFamily,
        _ port: UInt16,
        _ request: RelayRequest,
        token: UInt64
    ) -> RelayOpening {
        guard let address = addresses[family] else { return .familyUnavailable }
        handover.nextDescriptor += 1
        let descriptor = handover.nextDescriptor
        let leg = RelayLeg(
            descriptor: descriptor,
            local: Endpoint(address: address.inside, port: port),
            advertised: Endpoint(address: address.advertised, port: port)
        )
        open[descriptor] = (leg, request)
        taken.insert(Self.key(family, port))
        openings += 1
        return .opened(leg, token: token)
    }

    private static func key(_ family: AddressFamily, _ port: UInt16) -> UInt32 {
        UInt32(family.rawValue) << 16 | UInt32(port)
    }

    /// Takes all timers that have come by then, in no order.
    func takeTimers(bySecond second: UInt64) -> [UInt32] {
        let due = timers.filter { $0.value <= second }.map(\.key)
        for allocation in due { timers[allocation] = nil }
        return due
    }

    private func dropLapsedReservations() {
        reservations = reservations.filter { $0.value.untilNanoseconds > nowNanoseconds }
    }
}

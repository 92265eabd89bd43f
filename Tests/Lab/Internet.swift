import STUN
import TURN

/// An internet within the process: virtual time, hosts, links, NATs and firewalls, and the real TURN and signaling
/// servers. It does the same for the same seed.
///
///     let internet = Internet(seed: 7) { net in
///         net.relay("turn", users: ["alice": "wonderland"])
///         net.rendezvous("signaling", users: ["alice": "wonderland"])
///         net.nat("home", .portRestricted) { $0.host("alice") }
///         net.nat("carrier", .carrierGrade) { isp in
///             isp.nat("flat", .portRestricted) { $0.host("bob") }
///         }
///     }
///
///                        ┌────────────────── core ──────────────────┐
///                        │ 20.0.0.x  servers  30.0.x.x  everyone else │
///                        └──┬─────────┬─────────┬───────────────┬───┘
///                         turn    signaling   home           carrier
///                                               │ 192.168.1.x   │ 100.64.0.x
///                                             alice            flat
///                                                               │ 192.168.1.x
///                                                              bob
///
/// Each line is a link of its own, with its own quality. The internet owns all that hangs on it, and must be kept as
/// long as any of it is used.
package final class Internet {
    package let seed: UInt64
    package let scheduler = Scheduler()
    package let log = PacketLog()
    package private(set) lazy var core = Network(
        "core",
        in: self,
        hops: 8,
        pool: AddressPool(v4: "30.0.0.1", v6: 0x2A02_0000_0000_0000)
    )
    /// Seconds since the epoch at the start.
    package var wallStartSeconds: UInt64 = 1_800_000_000

    var hosts: [String: Host] = [:]
    var routers: [String: Router] = [:]
    /// Addresses of the servers, apart from those of everyone else.
    var serverPool = AddressPool(v4: "20.0.0.1", v6: 0x2A01_0000_0000_0000)
    var networkCount: UInt64 = 0
    var servers: [String: AnyObject] = [:]
    private var packetCount: UInt64 = 0
    private var eventsMax: UInt64

    /// - Parameters:
    ///   - eventsMax: a run of more events than this has gone wrong and is stopped; the run then throws.
    ///   - build: describes what is there.
    package init(seed: UInt64, eventsMax: UInt64 = 50_000_000, _ build: (Network) -> Void = { _ in }) {
        self.seed = seed
        self.eventsMax = eventsMax
        SeedRun.current?.internets.append(self)
        build(core)
    }

    package var now: UInt64 { scheduler.now }

    /// Seconds since the start.
    package var seconds: Double { Double(now - Scheduler.start) / 1e9 }

    package var wallSeconds: UInt64 { wallStartSeconds + (now - Scheduler.start) / 1_000_000_000 }

    /// The clocks as the TURN engine wants them.
    var moment: Moment { Moment(monotonicNanoseconds: now, wallSeconds: wallSeconds) }

    package func host(_ name: String) -> Host {
        guard let host = hosts[name] else { preconditionFailure("there is no host \(name)") }
        return host
    }

    package func hasRouter(_ name: String) -> Bool { routers[name] != nil }

    package func router(_ name: String) -> Router {
        guard let router = routers[name] else { preconditionFailure("there is no router \(name)") }
        return router
    }

    // MARK: Time

    /// Lets so much time pass.
    package func run(seconds: Double) throws { try run(until: now &+ nanoseconds(seconds)) }

    /// Lets time pass up to that moment.
    package func run(until end: UInt64) throws {
        while scheduler.step(until: end) { try check() }
        scheduler.skip(to: end)
    }

    /// Lets time pass as long as the condition holds, but no longer than so much.
    /// - Returns: whether it has ceased to hold.
    @discardableResult
    package func run(while condition: () -> Bool, atMostSeconds limit: Double = 60) throws -> Bool {
        let end = now &+ nanoseconds(limit)
        while condition() {
            guard scheduler.step(until: end) else {
                scheduler.skip(to: end)
                return false
            }
            try check()
        }
        return true
    }

    private func check() throws {
        guard scheduler.eventCount <= eventsMax else { throw RunawayError(events: eventsMax, seconds: seconds) }
    }

    package struct RunawayError: Error, CustomStringConvertible {
        let events: UInt64
        let seconds: Double

        package var description: String { "\(events) events have run by \(seconds) s, and there is no end of them" }
    }

    // MARK: Packets

    func nextPacketNumber() -> UInt64 {
        packetCount += 1
        return packetCount
    }

    func note(_ event: PacketLog.Event, _ packet: Packet, at place: String) {
        log.note(event, packet, at: place, time: now)
    }

    /// Sends what ICMP says of the packet on the way back.
    func complain(_ kind: Problem.Kind, _ packet: Packet, _ send: (Packet) -> Void) {
        guard let problem = Problem(kind, with: packet) else { return }
        var complaint = Packet(
            source: Endpoint(packet.destination.address, 0),
            destination: Endpoint(packet.source.address, 0),
            body: .problem(problem)
        )
        complaint.number = nextPacketNumber()
        note(.sent, complaint, at: "the way")
        send(complaint)
    }
}

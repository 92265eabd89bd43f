import Lab
import STUN
import Testing

/// Two hosts that learn their mapped endpoints from the real server, tell each other, and send: which pairs of NATs
/// meet is known, and so it says whether the lab's NATs are what they are named after.
@Suite struct PunchTests {
    enum Kind: String, CaseIterable {
        case open, fullCone, restricted, portRestricted, symmetric

        var behavior: NATBehavior? {
            switch self {
            case .open: nil
            case .fullCone: .fullCone
            case .restricted: .restricted
            case .portRestricted: .portRestricted
            case .symmetric: .symmetric
            }
        }
    }

    /// Without port prediction: all meet but a symmetric NAT with another one, or with a port-restricted one.
    private static func meets(_ one: Kind, _ other: Kind) -> Bool {
        let strict: Set = [Kind.portRestricted, .symmetric]
        return !(one == .symmetric && strict.contains(other) || other == .symmetric && strict.contains(one))
    }

    @Test(arguments: Kind.allCases, Kind.allCases)
    func thePairsMeetThatCan(one: Kind, other: Kind) async {
        await withSeeds(0..<3) { seed in
            let internet = Internet(seed: seed) { net in
                net.relay("stun")
                for (name, kind) in [("a", one), ("b", other)] {
                    if let behavior = kind.behavior {
                        net.nat("home of \(name)", behavior.with { $0.unsolicitedUDP = .drop }) { $0.host(name) }
                    } else {
                        net.host(name)
                    }
                }
            }
            let (a, b) = (try Puncher(internet, "a"), try Puncher(internet, "b"))
            try internet.run(seconds: 1)
            try a.punch(towards: #require(b.mapped))
            try b.punch(towards: #require(a.mapped))
            try internet.run(seconds: 5)
            #expect((a.hasMet && b.hasMet) == Self.meets(one, other), "\(one) and \(other)")
            #expect(internet.log.isConserved)
        }
    }
}

/// Sends to where the other one should be, and answers from where it hears.
private final class Puncher {
    private(set) var mapped: Endpoint?
    private(set) var hasMet = false
    private let internet: Internet
    private let socket: UDPSocket

    init(_ internet: Internet, _ name: String) throws {
        self.internet = internet
        socket = try #require(internet.host(name).udp(port: 5_000))
        socket.onReceive = { [unowned self] datagram in take(datagram) }
        socket.send(message(MessageType(.binding, .request)), to: internet.relay("stun").endpoint())
    }

    func punch(towards other: Endpoint, attempts: Int = 5) {
        guard attempts > 0, !hasMet else { return }
        socket.send("knock", to: other)
        internet.scheduler.after(seconds: 0.2) { [weak self] in self?.punch(towards: other, attempts: attempts - 1) }
    }

    private func take(_ datagram: Datagram) {
        if let reading = Reading(datagram.bytes) {
            mapped = reading.endpoint(.xorMappedAddress)
        } else if datagram.bytes == Array("knock".utf8) {
            socket.send("who is there", to: datagram.from)
        } else {
            // An answer: both directions work.
            if !hasMet { socket.send("it is me", to: datagram.from) }
            hasMet = true
        }
    }
}

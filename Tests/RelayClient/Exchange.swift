import NIOCore
import OpenSSLCrypto
import Traversal
import TurnpikeClient

struct ExchangePlan: Sendable {
    var server: RelayServer
    var count: Int
    /// Whether the first relay moves halfway.
    var moves: Bool

    init?(_ arguments: [String]) {
        guard (6...8).contains(arguments.count), let port = UInt16(arguments[1]),
            let transport = TURNConfiguration.Transport(rawValue: arguments[2]), let count = Int(arguments[5])
        else { return nil }
        server = RelayServer(
            host: arguments[0],
            port: port,
            transport: transport,
            credential: TURNCredential(username: arguments[3], password: arguments[4]),
            trust: arguments.count > 6 ? .authorities(file: arguments[6]) : .system
        )
        self.count = count
        moves = arguments.count > 7 && arguments[7] == "move"
    }
}

/// The datagrams' way: this end of relay 0, to relay 1's address, out of relay 1, and all the way back.
final class Exchange {
    /// So many are under way at once, which no socket's buffer minds.
    private static let window = 16
    private static let limitNanoseconds: UInt64 = 30_000_000_000

    private let plan: ExchangePlan
    private let network: NIONetwork
    private let ended: EventLoopPromise<Int32>
    private var relays: [RelayLink] = []
    private var alarm: (any Alarm)?
    private var relayed: [Int: Endpoint] = [:]
    private var permitted: Set<Int> = []
    private var nextNumber = 0
    private var arrived: Set<Int> = []
    private var broken = 0
    /// How many may be sent before the relay moves.
    private var limit: Int
    private var localBefore: Endpoint?
    private var resumption: (any Alarm)?
    private var keptUntilTheEnd: Exchange?

    init(_ plan: ExchangePlan, _ loop: any EventLoop, _ ended: EventLoopPromise<Int32>) {
        (self.plan, self.ended) = (plan, ended)
        limit = plan.moves ? plan.count / 2 : plan.count
        guard let cryptography = try? OpenSSLCryptography() else { preconditionFailure("OpenSSL has no HMAC") }
        network = NIONetwork(loop, cryptography: cryptography)
    }

    func begin() {
        keptUntilTheEnd = self
        alarm = network.alarm { [weak self] in self?.end("not in time") }
        alarm?.set(at: network.nowNanoseconds + Self.limitNanoseconds)
        let contexts = SecureContexts()
        for index in 0..<2 {
            let link = RelayLink(plan.server, families: .ipv4, network: network, contexts: contexts) {
                [weak self] event in self?.take(event, of: index)
            }
            relays.append(link)
            link.start()
        }
    }

    private func take(_ event: RelayEvent, of index: Int) {
        switch event {
        case .allocated(let allocation):
            relayed[index] = allocation.relayed.first
            guard let first = relayed[0], let second = relayed[1] else { return }
            relays[0].permit(second.address)
            relays[1].permit(first.address)
        case .permitted:
            permitted.insert(index)
            if permitted.count == 2 { fill() }
        case .received(let bytes, let source):
            guard index == 0 else {
                relays[1].send(bytes, to: source)
                return
            }
            guard let number = Self.number(bytes), arrived.insert(number).inserted else {
                broken += 1
                return
            }
            if arrived.count == plan.count {
                end(plan.moves && relays[0].local == localBefore ? "it did not move" : nil)
            } else if arrived.count == limit {
                move()
            } else {
                fill()
            }
        case .refused(_, let failure): end("\(failure)")
        case .ended(let failure): end(failure.map { "\($0)" } ?? "closed")
        case .peerError, .renewed, .silent, .renewalRefused: break
        }
    }

    private func fill() {
        guard let peer = relayed[1] else { return }
        while nextNumber < limit, nextNumber - arrived.count < Self.window {
            Self.datagram(nextNumber).withUnsafeBytes { _ = relays[0].send($0, to: peer) }
            nextNumber += 1
        }
    }

    private func move() {
        limit = plan.count
        localBefore = relays[0].local
        relays[0].move()
        // The new way has its handshakes to make; until then datagrams go nowhere.
        resumption = network.alarm { [weak self] in self?.fill() }
        resumption?.set(at: network.nowNanoseconds + 1_500_000_000)
    }

    private func end(_ failure: String?) {
        guard keptUntilTheEnd != nil else { return }
        let kind = plan.server.transport.rawValue
        let reason = failure.map { "\"\($0.replacing("\"", with: "'"))\"" } ?? "null"
        print(
            "{\"transport\": \"\(kind)\", \"sent\": \(nextNumber), \"received\": \(arrived.count), "
                + "\"broken\": \(broken), \"failure\": \(reason)}"
        )
        for relay in relays { relay.close() }
        // The farewells have their way to go.
        alarm = network.alarm { [ended, arrived, broken, plan] in
            ended.succeed(arrived.count == plan.count && broken == 0 ? 0 : 1)
        }
        alarm?.set(at: network.nowNanoseconds + 300_000_000)
        let alarm = alarm
        keptUntilTheEnd = nil
        ended.futureResult.assumeIsolated().whenComplete { _ in withExtendedLifetime(alarm) {} }
    }

    /// The number, and as many bytes that follow from it as make up many lengths.
    private static func datagram(_ number: Int) -> [UInt8] {
        let head = withUnsafeBytes(of: UInt64(number).bigEndian, Array.init)
        return head + (0..<(number * 37 % 1_100)).map { UInt8(truncatingIfNeeded: number &* 31 &+ $0) }
    }

    private static func number(_ bytes: UnsafeRawBufferPointer) -> Int? {
        guard bytes.count >= 8 else { return nil }
        let number = UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
        guard number < 1 << 30, bytes.elementsEqual(datagram(Int(number))) else { return nil }
        return Int(number)
    }
}

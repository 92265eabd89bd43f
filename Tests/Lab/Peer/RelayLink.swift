import STUN
import TestSupport
import Traversal

/// A TURN client with a socket or connection of its own: one relay of a peer, and one base of its ICE agent.
final class RelayLink {
    let base: ICEBase
    let transport: TURNConfiguration.Transport
    /// False for one that is about to be replaced.
    var isWanted = true
    /// Hears of everything but what goes to the server.
    var onAction: (TURNAction) -> Void = { _ in }

    private let host: Host
    private let configuration: TURNConfiguration
    private let cryptography: any Cryptography
    /// The socket, or connection, in use.
    private var way: Int?
    private lazy var agent = Agent<TURNClient, TURNAction>(
        on: host,
        TURNClient(configuration, with: cryptography),
        take: { [unowned self] client, input, now, actions in take(&client, input, now, &actions) },
        expire: { client, now, actions in client.advance(now: now, into: &actions) },
        deadline: { $0.nextDeadline },
        perform: { [unowned self] _, action in perform(action) }
    )

    init(_ host: Host, _ base: ICEBase, _ configuration: TURNConfiguration, _ cryptography: any Cryptography) {
        (self.host, self.base, self.configuration) = (host, base, configuration)
        self.cryptography = cryptography
        transport = configuration.transport
    }

    var isOpen: Bool { agent.machine.allocation != nil }

    var hasEnded: Bool { agent.machine.hasEnded }

    /// What its client holds; see `weight(of:except:)`.
    var weight: Int { TestSupport.weight(of: agent.machine, except: { $0 is SeededCryptography }) }

    func open() { dial(configuration.server) }

    func permit(_ peer: IPAddress) {
        agent.step { client, now, actions in client.permit([peer], now: now, into: &actions) }
    }

    func forget(_ peer: IPAddress) { agent.step { client, _, _ in client.forget(peer) } }

    func bindChannel(to peer: Endpoint) {
        agent.step { client, now, actions in client.bindChannel(to: peer, now: now, into: &actions) }
    }

    func send(_ bytes: [UInt8], to peer: Endpoint) {
        agent.step { client, now, actions in
            _ = bytes.withUnsafeBytes { client.send($0, to: peer, now: now, into: &actions) }
        }
    }

    func close() { agent.step { client, now, actions in client.close(now: now, into: &actions) } }

    private func dial(_ server: Endpoint) {
        guard transport.isStream else {
            way = agent.open()
            return agent.step { client, now, actions in client.start(now: now, into: &actions) }
        }
        way = agent.connect(to: server)
    }

    private func take(_ client: inout TURNClient, _ input: AgentInput, _ now: UInt64, _ actions: inout [TURNAction]) {
        switch input {
        case .datagram(let socket, let bytes, let source, _) where socket == way:
            bytes.withUnsafeBytes { client.receive($0, from: source, now: now, into: &actions) }
        case .opened(let stream) where stream == way: client.start(now: now, into: &actions)
        case .bytes(let stream, let bytes) where stream == way:
            bytes.withUnsafeBytes { client.receive($0, now: now, into: &actions) }
        case .closed(let stream, _) where stream == way: client.connectionLost(into: &actions)
        default: break
        }
    }

    private func perform(_ action: TURNAction) {
        switch action {
        case .send(let bytes):
            guard let way else { return }
            if transport.isStream {
                agent.send(bytes, on: way)
            } else {
                agent.send(bytes, to: agent.machine.server, from: way)
            }
        case .reconnect(let server, _):
            hangUp()
            dial(server)
        case .ended:
            hangUp()
            onAction(action)
        default: onAction(action)
        }
    }

    private func hangUp() {
        guard let way else { return }
        self.way = nil
        if transport.isStream { agent.close(stream: way) } else { agent.close(socket: way) }
    }
}

import STUN
import Traversal

/// The real `BehaviourDiscovery` on a host.
///
///     let probe = NATProbe(internet, on: "a")
///     try internet.run(while: { probe.report == nil })
package final class NATProbe {
    /// What it has concluded, with what it has found out since.
    package private(set) var report: NATReport?
    package private(set) var concludedAt: UInt64?
    /// When the last of the servers that answered did so first.
    package private(set) var answeredAt: UInt64?
    /// It has changed its mind so often, or rather learned more.
    package private(set) var refinements = 0

    private let internet: Internet
    private let address: IPAddress
    private var answers = 0
    /// The discovery's numbers of sockets, and the agent's.
    private var numbers: [Int: Int] = [:]
    private lazy var agent = Agent<BehaviourDiscovery, BehaviourDiscovery.Action>(
        on: host,
        discovery,
        take: { [unowned self] machine, input, now, actions in take(&machine, input, now, &actions) },
        expire: { machine, now, actions in machine.advance(now: now, into: &actions) },
        deadline: { $0.nextDeadline },
        perform: { [unowned self] agent, action in perform(action) }
    )
    private let host: Host
    private let discovery: BehaviourDiscovery

    /// - Parameters:
    ///   - servers: by default the first address of the relay that is called "turn".
    ///   - family: whose address of the host it begins at.
    package init(
        _ internet: Internet,
        on name: String,
        asking servers: [BehaviourDiscovery.Server]? = nil,
        family: AddressFamily = .ipv4,
        lifetimes: NATLifetimeSearch = .none
    ) {
        self.internet = internet
        host = internet.host(name)
        address = host.address(family) ?? IPAddress(v4: 0)
        guard let cryptography = try? SeededCryptography(seed: host.dice.next()) else {
            preconditionFailure("OpenSSL has no HMAC")
        }
        discovery = BehaviourDiscovery(
            servers: servers ?? [BehaviourDiscovery.Server(internet.relay("turn").endpoint(family))],
            lifetimes: lifetimes,
            with: cryptography
        )
        agent.step { machine, now, actions in machine.start(now: now, into: &actions) }
    }

    /// The server was reached some other way.
    package func confirmRunning(_ server: Endpoint) {
        agent.step { machine, _, actions in machine.confirmRunning(server, into: &actions) }
    }

    package var openSockets: Int { agent.sockets.count { $0 != nil } }

    private func take(
        _ machine: inout BehaviourDiscovery,
        _ input: AgentInput,
        _ now: UInt64,
        _ actions: inout [BehaviourDiscovery.Action]
    ) {
        guard case .datagram(let socket, let bytes, let source, _) = input,
            let number = numbers.first(where: { $0.value == socket })?.key
        else { return }
        bytes.withUnsafeBytes { _ = machine.receive($0, on: number, from: source, now: now, into: &actions) }
        guard machine.report.answeringServers.count > answers, concludedAt == nil else { return }
        (answers, answeredAt) = (machine.report.answeringServers.count, now)
    }

    private func perform(_ action: BehaviourDiscovery.Action) {
        switch action {
        case .open(let number):
            let socket = agent.open(at: address)
            numbers[number] = socket
            let local = socket.flatMap { agent.sockets[$0]?.local(address.family) }
            agent.step { machine, now, actions in
                machine.opened(number, at: local, now: now, into: &actions)
            }
        case .close(let number):
            if let socket = numbers.removeValue(forKey: number) { agent.close(socket: socket) }
        case .send(let number, let destination, let bytes):
            if let socket = numbers[number] { agent.send(bytes, to: destination, from: socket) }
        case .concluded(let report): (self.report, concludedAt) = (report, internet.now)
        case .refined(let report):
            self.report = report
            refinements += 1
        }
    }
}

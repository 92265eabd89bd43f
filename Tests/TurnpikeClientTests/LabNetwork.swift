import Lab
import STUN
import Traversal
import TurnpikeClient

// The lab and the client have things of the same names.
typealias LabRelay = Lab.RelayServer
typealias RelayServer = TurnpikeClient.RelayServer

/// A host of the lab as the client sees its network.
final class LabNetwork: ClientNetwork {
    let host: Host
    let cryptography: any Cryptography
    let punchGate = PunchGate()
    /// Names and their addresses. A name that stands for nothing is not known; others take a while.
    var names: [String: [IPAddress]] = [:]
    var lookupMilliseconds = 20.0
    /// Families whose addresses the machine does not show.
    var hidden: Set<AddressFamily> = []
    /// Addresses that the machine shows and does not have.
    var extra: [IPAddress] = []
    /// Whether the system tells of changes of addresses, or they have to be looked for.
    var tellsChanges = true
    /// What comes instead of a datagram, for tests of a hostile network.
    var onDatagram: ([UInt8]) -> [[UInt8]] = { [$0] }
    /// What comes instead of a text of the signaling.
    var onText: (String) -> [String] = { [$0] }
    /// As if the monotonic clock had stood still for so long.
    var suspendedNanoseconds: UInt64 = 0
    private(set) var openPorts = 0
    /// What has happened while the program was stopped, as the system keeps it; nil while it runs.
    private var delayed: [() -> Void]?
    private var delayedDatagrams = 0
    /// Hosts do not hold it, and what a test leaves behind gives its sockets back to it.
    private let internet: Internet

    init(_ host: Host, seed: UInt64) throws {
        self.host = host
        internet = host.internet
        cryptography = try SeededCryptography(seed: seed)
    }

    private var scheduler: Scheduler { host.internet.scheduler }

    var nowNanoseconds: UInt64 { host.internet.now }

    var wallMilliseconds: Int64 { Int64(host.internet.wallSeconds) * 1_000 }

    func localAddresses() -> [LocalAddress] {
        (host.addresses + extra).filter { !hidden.contains($0.family) }.map {
            LocalAddress(address: $0, interface: "lab0")
        }
    }

    func gateways() -> [Gateway] {
        host.interfaces.compactMap { $0.network.router?.portMapping?.address }
            .map { Gateway(address: $0, interface: "lab0") }
    }

    func openDatagrams(
        at address: IPAddress,
        port: UInt16,
        _ receive: @escaping (DatagramEvent) -> Void
    ) throws(NetworkFailure) -> any DatagramPort {
        guard address.isAny || host.addresses.contains(address) else {
            throw NetworkFailure(.addressUnavailable, "a UDP socket at \(address.text)")
        }
        guard let own = address.isAny ? host.address(address.family) : address else {
            throw NetworkFailure(.addressUnavailable, "a UDP socket at \(address.text)")
        }
        guard let socket = host.udp(port: port, at: own) else {
            throw NetworkFailure(.addressInUse, "a UDP socket at \(own.text):\(port)")
        }
        openPorts += 1
        let local = Endpoint(address: own, port: socket.port)
        let handed: (DatagramEvent) -> Void = { [weak self] in self?.hand($0, to: receive) }
        return LabPort(socket, local: local, on: self, handed) { [weak self] in
            self?.openPorts -= 1
        }
    }

    func watchAddresses(_ changed: @escaping () -> Void) -> AnyObject? {
        tellsChanges ? LabAddressWatch(host) { [weak self] in self?.run(changed) } : nil
    }

    // MARK: Stopping

    /// The program is stopped (SIGSTOP): its host goes on, and what comes for it waits.
    func stop() { delayed = [] }

    /// It goes on.
    func proceed() {
        let events = delayed ?? []
        (delayed, delayedDatagrams) = (nil, 0)
        for event in events { event() }
    }

    func run(_ event: @escaping () -> Void) { if delayed == nil { event() } else { delayed?.append(event) } }

    /// A socket holds some, and those that are too many are lost.
    func runDatagram(_ event: @escaping () -> Void) {
        guard delayed != nil else { return event() }
        delayedDatagrams += 1
        if delayedDatagrams <= 1_000 { delayed?.append(event) }
    }

    private func hand(_ event: DatagramEvent, to receive: (DatagramEvent) -> Void) {
        guard case .datagram(let bytes, let source) = event else { return receive(event) }
        for bytes in onDatagram([UInt8](bytes)) { bytes.withUnsafeBytes { receive(.datagram($0, from: source)) } }
    }

    func connect(to endpoint: Endpoint, _ receive: @escaping (StreamEvent) -> Void) -> any StreamLink {
        LabStream(host, to: endpoint) { [weak self] event in self?.take(event, receive) }
    }

    func openStreams(
        at address: IPAddress,
        port: UInt16,
        _ receive: @escaping (StreamPortEvent) -> Void
    ) throws(NetworkFailure) -> any StreamPort {
        let subject = "a TCP port at \(address.text)"
        guard host.addresses.contains(address) else { throw NetworkFailure(.addressUnavailable, subject) }
        guard let port = host.freeStreamPort(port) else { throw NetworkFailure(.addressInUse, subject) }
        openPorts += 1
        return LabStreamPort(host, Endpoint(address, port), receive) { [weak self] in self?.openPorts -= 1 }
    }

    func openWebSocket(
        _ request: WebSocketRequest,
        _ receive: @escaping (WebSocketEvent) -> Void
    ) -> any WebSocketLink {
        let addresses = names[request.host] ?? [AddressText.address(request.host)].compactMap(\.self)
        let address = addresses.first { host.address($0.family) != nil } ?? addresses.first
        return LabWebSocket(host, to: address, request) { [weak self] event in
            guard let self else { return }
            guard case .text(let text) = event else { return run { receive(event) } }
            for text in onText(text) { run { receive(.text(text)) } }
        }
    }

    private func take(_ event: StreamEvent, _ receive: @escaping (StreamEvent) -> Void) {
        // The bytes are there for the time of the call.
        guard case .bytes(let bytes) = event else { return run { receive(event) } }
        let kept = Array(bytes)
        run { kept.withUnsafeBytes { receive(.bytes($0)) } }
    }

    func resolve(_ name: String, _ answer: @escaping (Result<[IPAddress], NetworkFailure>) -> Void) {
        let literal = AddressText.address(name)
        let result: Result<[IPAddress], NetworkFailure> =
            if let found = literal.map({ [$0] }) ?? names[name] { .success(found) } else {
                .failure(NetworkFailure(.unknownName, "the name \(name)"))
            }
        scheduler.after(seconds: literal == nil ? lookupMilliseconds / 1_000 : 0) { answer(result) }
    }

    func alarm(_ body: @escaping () -> Void) -> any TurnpikeClient.Alarm {
        LabAlarm(scheduler) { [weak self] in self?.run(body) }
    }
}

final class LabAlarm: TurnpikeClient.Alarm {
    private let alarm: Lab.Alarm

    init(_ scheduler: Scheduler, _ body: @escaping () -> Void) { alarm = Lab.Alarm(scheduler, body) }

    func set(at timeNanoseconds: UInt64?) { alarm.set(timeNanoseconds) }
}

private final class LabAddressWatch {
    private unowned let host: Host

    init(_ host: Host, _ changed: @escaping () -> Void) {
        self.host = host
        host.watchAddresses(for: self, changed)
    }

    deinit { host.watchAddresses(for: self, nil) }
}

private final class LabPort: DatagramPort {
    let local: Endpoint
    private var socket: UDPSocket?
    private let onClose: () -> Void

    init(
        _ socket: UDPSocket,
        local: Endpoint,
        on network: LabNetwork,
        _ receive: @escaping (DatagramEvent) -> Void,
        onClose: @escaping () -> Void
    ) {
        (self.socket, self.local, self.onClose) = (socket, local, onClose)
        // A closed one tells nothing, not even what has waited for it.
        socket.onReceive = { [weak self, weak network] datagram in
            network?.runDatagram {
                guard self?.socket != nil else { return }
                datagram.bytes.withUnsafeBytes { receive(.datagram($0, from: datagram.from)) }
            }
        }
        socket.onProblem = { [weak self, weak network] problem in
            // A system says of no address that it cannot be reached because one datagram was too long.
            if case .tooBig = problem.kind { return }
            network?.run { if self?.socket != nil { receive(.unreachable(problem.destination)) } }
        }
    }

    func send(_ bytes: UnsafeRawBufferPointer, to destination: Endpoint) {
        socket?.send(Array(bytes), to: destination)
    }

    func send(_ bytes: UnsafeRawBufferPointer, to destination: Endpoint, hopLimit: UInt8) {
        socket?.send(Array(bytes), to: destination, hopLimit: Int(hopLimit))
    }

    func close() {
        guard let socket else { return }
        socket.onReceive = nil
        socket.onProblem = nil
        socket.close()
        self.socket = nil
        onClose()
    }
}

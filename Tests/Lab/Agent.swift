import STUN

/// What happens to a machine that has no sockets of its own.
package enum AgentInput {
    /// A datagram came to the socket with that number.
    case datagram(socket: Int, [UInt8], from: Endpoint, to: Endpoint)
    /// ICMP says that a datagram did not arrive.
    case problem(socket: Int, Problem)
    /// A TCP connection opened; bytes came on it; it is gone.
    case opened(stream: Int)
    case bytes(stream: Int, [UInt8])
    case closed(stream: Int, TCPConnection.Failure?)
    /// Somebody has connected to a port that is listened on.
    case accepted(stream: Int, from: Endpoint)
}

/// Runs a machine that takes bytes and the time, and gives actions: an ICE agent, a TURN client, NAT discovery.
/// Closures say how it is spoken to, so that it need not know of the lab.
///
///     let agent = Agent(on: host, machine) { machine, input, now, actions in
///         guard case .datagram(let socket, let bytes, let source, _) = input else { return }
///         machine.receive(bytes, from: source, on: socket, now: now, into: &actions)
///     } expire: { machine, now, actions in
///         machine.expire(now: now, into: &actions)
///     } deadline: {
///         $0.nextDeadline
///     } perform: { agent, action in
///         if case .send(let bytes, let destination) = action { agent.send(bytes, to: destination) }
///     }
///     let socket = agent.open()
///     agent.step { machine, now, actions in machine.start(now: now, into: &actions) }
package final class Agent<Machine, Action> {
    package typealias Take = (inout Machine, AgentInput, _ now: UInt64, inout [Action]) -> Void
    package typealias Expire = (inout Machine, _ now: UInt64, inout [Action]) -> Void
    package typealias Deadline = (Machine) -> UInt64?
    /// Carries an action out. A `step` that it asks for follows when all of this one's are done.
    package typealias Perform = (Agent, Action) -> Void

    package let host: Host
    package private(set) var machine: Machine
    /// Closed ones are nil, so that a number never means another.
    package private(set) var sockets: [UDPSocket?] = []
    package private(set) var streams: [TCPConnection?] = []

    private let take: Take
    private let expire: Expire
    private let deadline: Deadline
    private let perform: Perform
    private lazy var alarm = Alarm(host.internet.scheduler) { [weak self] in
        guard let self else { return }
        step { machine, now, actions in self.expire(&machine, now, &actions) }
    }
    private var waiting: [(inout Machine, UInt64, inout [Action]) -> Void] = []
    private var isBusy = false

    package init(
        on host: Host,
        _ machine: Machine,
        take: @escaping Take,
        expire: @escaping Expire,
        deadline: @escaping Deadline,
        perform: @escaping Perform
    ) {
        (self.host, self.machine) = (host, machine)
        (self.take, self.expire, self.deadline, self.perform) = (take, expire, deadline, perform)
    }

    package var now: UInt64 { host.now }

    /// Does something with the machine, carries out what it wants done, and sets its timer. While a step is under way,
    /// another one waits for its end.
    package func step(_ body: @escaping (inout Machine, _ now: UInt64, inout [Action]) -> Void) {
        waiting.append(body)
        guard !isBusy else { return }
        isBusy = true
        while !waiting.isEmpty {
            let body = waiting.removeFirst()
            var actions: [Action] = []
            body(&machine, host.now, &actions)
            for action in actions { perform(self, action) }
        }
        isBusy = false
        alarm.set(deadline(machine))
    }

    // MARK: Sockets

    /// Opens a UDP socket.
    /// - Returns: its number; nil where the port is taken.
    package func open(port: UInt16 = 0, at address: IPAddress? = nil) -> Int? {
        guard let socket = host.udp(port: port, at: address) else { return nil }
        let number = sockets.count
        sockets.append(socket)
        socket.onReceive = { [weak self] datagram in
            self?.give(.datagram(socket: number, datagram.bytes, from: datagram.from, to: datagram.to))
        }
        socket.onProblem = { [weak self] in self?.give(.problem(socket: number, $0)) }
        return number
    }

    package func send(_ bytes: [UInt8], to destination: Endpoint, from socket: Int = 0, hopLimit: Int = 64) {
        guard sockets.indices.contains(socket) else { return }
        sockets[socket]?.send(bytes, to: destination, hopLimit: hopLimit)
    }

    package func close(socket: Int) {
        guard sockets.indices.contains(socket) else { return }
        sockets[socket]?.close()
        sockets[socket] = nil
    }

    // MARK: Streams

    /// Opens a TCP connection; `opened` or `closed` tells what became of it.
    package func connect(to remote: Endpoint, from port: UInt16 = 0) -> Int? {
        host.connect(to: remote, from: port).map { adopt($0) }
    }

    /// Takes connections to a port, until it is called with false.
    package func listen(_ port: UInt16, _ listens: Bool = true) {
        guard listens else { return host.listen(port, nil) }
        host.listen(port) { [weak self] connection in
            guard let self else { return connection.abort() }
            let stream = adopt(connection)
            give(.accepted(stream: stream, from: connection.remote))
        }
    }

    package func send(_ bytes: [UInt8], on stream: Int) {
        guard streams.indices.contains(stream) else { return }
        streams[stream]?.send(bytes)
    }

    package func close(stream: Int) {
        guard streams.indices.contains(stream) else { return }
        streams[stream]?.finish()
    }

    private func adopt(_ connection: TCPConnection) -> Int {
        let number = streams.count
        streams.append(connection)
        connection.onOpen = { [weak self] in self?.give(.opened(stream: number)) }
        connection.onReceive = { [weak self] in self?.give(.bytes(stream: number, $0)) }
        connection.onEnd = { [unowned connection] in connection.finish() }
        connection.onClose = { [weak self] failure in
            self?.streams[number] = nil
            self?.give(.closed(stream: number, failure))
        }
        return number
    }

    private func give(_ input: AgentInput) {
        step { [take] machine, now, actions in take(&machine, input, now, &actions) }
    }
}

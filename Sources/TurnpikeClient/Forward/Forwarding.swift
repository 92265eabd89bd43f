import DataChannels
import NIOCore
import Traversal

/// Forwards TCP connections over a client's peer connections, in both directions, on its loop.
final class Forwarding {
    let client: PeerClient
    let tell: (ForwardEvent) -> Void
    private let loop: any EventLoop
    private var doors: [ForwardDoor] = []
    private var policy: ForwardPolicy?
    private var pipes: [ObjectIdentifier: ForwardPipe] = [:]
    /// By the session's number.
    private var counts: [UInt64: Int] = [:]
    private var isClosed = false

    init(_ client: PeerClient, on loop: any EventLoop, _ tell: @escaping (ForwardEvent) -> Void) {
        (self.client, self.loop, self.tell) = (client, loop, tell)
    }

    /// Takes connections at an endpoint and carries them to the peer's target.
    /// - Parameter done: gets where it listens, as the endpoint's port may have been 0.
    func open(
        at endpoint: Endpoint,
        to peer: PeerID,
        _ target: ForwardTarget,
        _ done: @escaping (Result<Endpoint, NetworkFailure>) -> Void
    ) {
        let place = DoorPlace()
        let accept: (ForwardSocket) -> Void = { socket in
            if let door = place.door { door.take(socket) } else { socket.reset() }
        }
        ForwardSocket.listen(at: endpoint, on: loop, accept) { [weak self] result in
            if case .success(let found) = result {
                guard let self, !isClosed else {
                    found.listener.close(promise: nil)
                    return done(.failure(NetworkFailure(.other, AddressText.text(endpoint), detail: "it was closed")))
                }
                let door = ForwardDoor(self, found.listener, to: peer, target)
                place.door = door
                doors.append(door)
                // So that the connection is there for the first one, and a mistake is told at once.
                door.ask()
            }
            done(result.map(\.local))
        }
    }

    /// Connects to targets for peers that the policy allows them.
    func serve(_ policy: ForwardPolicy) {
        self.policy = policy
        client.channelTaker = { [weak self] channel, session in self?.take(channel, of: session) }
    }

    func close() {
        isClosed = true
        client.channelTaker = nil
        for door in doors { door.close() }
        doors = []
        for pipe in Array(pipes.values) { pipe.end(.over) }
    }

    // MARK: This side opens

    func carry(_ socket: ForwardSocket, over session: PeerSession, to target: ForwardTarget) {
        guard hasRoom(beside: session) else {
            tell(.crowded(peer: session.remote, limit: limit(of: session)))
            return socket.reset()
        }
        guard let flow = try? ForwardFlow(opening: target.description, windowBytes: windowBytes) else {
            return socket.reset()
        }
        let pipe = ForwardPipe(session, flow, patience: ClientLimits.forwardAnswerTime) { [weak self] pipe, ending in
            self?.forget(pipe, ending)
        }
        var configuration = DataChannelConfiguration(label: target.description)
        configuration.subprotocol = ForwardLimits.subprotocol
        guard case .success(let number) = session.open(configuration, for: pipe) else { return socket.reset() }
        keep(pipe)
        pipe.begin(on: number)
        pipe.use(socket)
    }

    // MARK: The peer opens

    /// - Returns: nil for a channel of another kind.
    private func take(_ channel: DataChannel, of session: PeerSession) -> (any ChannelUser)? {
        guard let policy, channel.subprotocol == ForwardLimits.subprotocol else { return nil }
        let isReliable = channel.isOrdered && channel.reliability == .reliable
        let hasRoom = hasRoom(beside: session)
        let limit = limit(of: session)
        let flow = ForwardFlow(windowBytes: windowBytes)
        let pipe = ForwardPipe(session, flow, patience: ClientLimits.forwardAskTime) { [weak self] pipe, ending in
            self?.forget(pipe, ending)
        }
        pipe.onAsked = { [weak self] pipe in
            guard let self else { return pipe.end(.over) }
            if !isReliable { return pipe.end(.broken(.malformed)) }
            if !hasRoom {
                return decline(pipe, ForwardRefusal(.tooMany, "it carries \(limit) connections, and no more"))
            }
            switch policy.answer(pipe.target, to: pipe.peer, by: pipe.own) {
            case .failure(let refusal): decline(pipe, refusal)
            case .success(let target): connect(pipe, to: target)
            }
        }
        keep(pipe)
        return pipe
    }

    private func connect(_ pipe: ForwardPipe, to target: ForwardTarget) {
        if let addresses = target.addresses { return connect(pipe, to: target, addresses[...]) }
        client.network.resolve(target.host) { [weak self] answer in
            switch answer {
            case .success(let addresses):
                self?.connect(pipe, to: target, addresses.prefix(ClientLimits.forwardAddresses))
            case .failure(let failure): self?.decline(pipe, ForwardRefusal(failure))
            }
        }
    }

    /// One by one: what is refused is known at once, and others are rare.
    private func connect(_ pipe: ForwardPipe, to target: ForwardTarget, _ addresses: ArraySlice<IPAddress>) {
        guard let first = addresses.first else {
            return decline(pipe, ForwardRefusal(.unknownHost, "\(target.host): there is no such name"))
        }
        ForwardSocket.connect(to: Endpoint(address: first, port: target.port), on: loop) { [weak self] result in
            switch result {
            case .success(let socket):
                guard let self, pipes[ObjectIdentifier(pipe)] != nil else { return socket.reset() }
                tell(.accepted(peer: pipe.peer, target: target.description))
                pipe.accept(socket)
            case .failure(let failure):
                guard addresses.count == 1 else {
                    self?.connect(pipe, to: target, addresses.dropFirst())
                    return
                }
                self?.decline(pipe, ForwardRefusal(failure))
            }
        }
    }

    private func decline(_ pipe: ForwardPipe, _ refusal: ForwardRefusal) {
        guard pipes[ObjectIdentifier(pipe)] != nil else { return }
        tell(.declined(peer: pipe.peer, target: pipe.target, refusal))
        pipe.refuse(refusal)
    }

    // MARK: Counting

    private var windowBytes: Int { ForwardLimits.windowBytes(besideConnections: pipes.count) }

    private func hasRoom(beside session: PeerSession) -> Bool {
        counts[session.number, default: 0] < ClientLimits.forwardsPerPeer && pipes.count < ClientLimits.forwardsInAll
    }

    private func limit(of session: PeerSession) -> Int {
        pipes.count < ClientLimits.forwardsInAll ? ClientLimits.forwardsPerPeer : ClientLimits.forwardsInAll
    }

    private func keep(_ pipe: ForwardPipe) {
        pipes[ObjectIdentifier(pipe)] = pipe
        counts[pipe.sessionNumber, default: 0] += 1
    }

    private func forget(_ pipe: ForwardPipe, _ ending: ForwardPipe.Ending) {
        pipes[ObjectIdentifier(pipe)] = nil
        let left = counts[pipe.sessionNumber, default: 1] - 1
        counts[pipe.sessionNumber] = left > 0 ? left : nil
        switch ending {
        case .over: break
        case .refused(let refusal): tell(.refused(peer: pipe.peer, target: pipe.target, refusal))
        // Who opened a channel and never said what for is not worth a line.
        case .unanswered where pipe.target.isEmpty: break
        case .unanswered: tell(.unanswered(peer: pipe.peer, target: pipe.target))
        case .broken(let error): tell(.broken(peer: pipe.peer, target: pipe.target, error))
        }
    }
}

/// Where a door is put once it is there.
private final class DoorPlace {
    weak var door: ForwardDoor?
}

extension P2PCoordinator {
    /// Takes TCP connections at an address of this machine and carries them to a peer's target, until `shutdown()`.
    ///
    /// - Parameters:
    ///   - address: of this machine, in text.
    ///   - port: 0 for one of the system's choice.
    ///   - tell: called on the loop with what becomes of them.
    /// - Returns: where it listens, as `address:port`.
    package func forward(
        from address: String,
        _ port: UInt16,
        to peer: PeerID,
        _ target: ForwardTarget,
        _ tell: @escaping @Sendable (ForwardEvent) -> Void
    ) async throws(NetworkFailure) -> String {
        guard let forwarding = forwarding(tell), let address = AddressText.address(address) else {
            throw NetworkFailure(.addressUnavailable, "\(address):\(port)")
        }
        let endpoint = Endpoint(address: address, port: port)
        let opened = await withCheckedContinuation { continuation in
            forwarding.open(at: endpoint, to: peer, target) { continuation.resume(returning: $0) }
        }
        return AddressText.text(try opened.get())
    }

    /// Makes TCP connections for peers, where the policy lets them.
    ///
    /// - Parameter tell: called on the loop with what becomes of them.
    package func acceptForwards(_ policy: ForwardPolicy, _ tell: @escaping @Sendable (ForwardEvent) -> Void) {
        forwarding(tell)?.serve(policy)
    }
}

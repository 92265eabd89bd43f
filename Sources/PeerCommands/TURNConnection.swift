import TurnpikeClient

/// A `TURNClient` over one of its transports, with the socket, the connection and the alarm that it needs.
final class TURNConnection {
    enum Event {
        case allocated(TURNAllocation)
        case bound(Endpoint)
        /// The server does not relay to that peer.
        case refused(TURNFailure)
        /// The bytes are there for the time of the call.
        case received(UnsafeRawBufferPointer, from: Endpoint)
        /// Nothing follows. Nil: it was closed.
        case ended(Problem?)
    }

    /// What every connection of one command shares.
    struct Surroundings {
        let network: any ClientNetwork
        let contexts: SecureContexts
        let trust: ServerTrust
    }

    private let surroundings: Surroundings
    private var network: any ClientNetwork { surroundings.network }
    private var serverName: String
    private let receive: (Event) -> Void
    private var client: TURNClient
    private var port: (any DatagramPort)?
    private var link: (any StreamLink)?
    private var alarm: (any Alarm)?
    private var hasEnded = false
    /// Sends since something came, and when the last of them was: one exchange alone shows a round trip.
    private var sendsUnderWay = 0
    private var lastSentAt: UInt64 = 0

    /// The shortest exchange of a request and its answer.
    private(set) var roundTripNanoseconds: UInt64?
    /// Something has come from the server, whatever it said.
    private(set) var hasAnswered = false

    /// - Parameters:
    ///   - serverName: what the certificate is to be made out to.
    ///   - receive: called on the loop, and never from within a call of this object's methods but `start`.
    init(
        _ configuration: TURNConfiguration,
        serverName: String,
        in surroundings: Surroundings,
        _ receive: @escaping (Event) -> Void
    ) {
        (self.surroundings, self.serverName, self.receive) = (surroundings, serverName, receive)
        client = TURNClient(configuration, with: surroundings.network.cryptography)
    }

    deinit { closeTransport() }

    func start() {
        alarm = network.alarm { [weak self] in
            self?.step { client, now, actions in client.advance(now: now, into: &actions) }
        }
        open()
    }

    var allocation: TURNAllocation? { client.allocation }

    var queuedBytes: Int { link?.queuedBytes ?? 0 }

    /// A channel to the peer; `.bound` or `.refused` follows.
    func bindChannel(to peer: Endpoint) {
        step { client, now, actions in client.bindChannel(to: peer, now: now, into: &actions) }
    }

    func send(_ bytes: UnsafeRawBufferPointer, to peer: Endpoint) {
        step { client, now, actions in _ = client.send(bytes, to: peer, now: now, into: &actions) }
    }

    /// Gives the allocation back; `.ended` follows when the server has answered, or does not.
    func close() {
        step { client, now, actions in client.close(now: now, into: &actions) }
    }

    // MARK: The client

    private func step(_ body: (inout TURNClient, UInt64, inout [TURNAction]) -> Void) {
        guard !hasEnded else { return }
        var actions: [TURNAction] = []
        body(&client, network.nowNanoseconds, &actions)
        for action in actions where !hasEnded { perform(action) }
        if !hasEnded { alarm?.set(at: client.nextDeadline) }
    }

    private func perform(_ action: TURNAction) {
        switch action {
        case .send(let bytes):
            (sendsUnderWay, lastSentAt) = (sendsUnderWay + 1, network.nowNanoseconds)
            bytes.withUnsafeBytes { bytes in
                if let port { port.send(bytes, to: client.server) } else { link?.send(bytes) }
            }
        case .reconnect(_, let certificateName):
            if let certificateName { serverName = certificateName }
            closeTransport()
            sendsUnderWay = 0
            open()
        case .allocated(let allocation): receive(.allocated(allocation))
        case .received(let bytes, let peer): bytes.withUnsafeBytes { receive(.received($0, from: peer)) }
        case .channelBound(_, let peer): receive(.bound(peer))
        case .refused(_, let failure): receive(.refused(failure))
        case .ended(let failure): end(failure.map { problem($0) })
        case .permitted, .peerError, .renewed, .renewalRefused: break
        }
    }

    private func take(_ bytes: UnsafeRawBufferPointer, from source: Endpoint?) {
        if sendsUnderWay == 1 {
            let time = network.nowNanoseconds &- lastSentAt
            roundTripNanoseconds = min(roundTripNanoseconds ?? .max, time)
        }
        sendsUnderWay = 0
        hasAnswered = true
        step { client, now, actions in client.receive(bytes, from: source, now: now, into: &actions) }
    }

    private func end(_ problem: Problem?) {
        guard !hasEnded else { return }
        hasEnded = true
        alarm?.set(at: nil)
        closeTransport()
        receive(.ended(problem))
    }

    private func problem(_ failure: TURNFailure) -> Problem {
        let username = client.configuration.credential.username
        return Problem(failure, username: username, nowSeconds: network.wallMilliseconds / 1_000)
    }

    // MARK: The transport

    private func open() {
        let server = client.server
        do throws(NetworkFailure) {
            switch client.configuration.transport {
            case .udp:
                port = try network.openDatagrams(at: .any(server.family), port: 0) { [weak self] event in
                    self?.take(event)
                }
                step { client, now, actions in client.start(now: now, into: &actions) }
            case .tcp: link = network.connect(to: server) { [weak self] event in self?.take(event) }
            case .tls:
                link = try SecureStream(
                    to: server,
                    serverName: serverName,
                    trust: surroundings.trust,
                    protocols: Self.protocols,
                    contexts: surroundings.contexts,
                    network: network
                ) { [weak self] event in self?.take(event) }
            case .dtls:
                link = try SecureDatagrams(
                    to: server,
                    serverName: serverName,
                    trust: surroundings.trust,
                    protocols: Self.protocols,
                    contexts: surroundings.contexts,
                    network: network
                ) { [weak self] event in self?.take(event) }
            }
        } catch {
            end(Problem(error))
        }
    }

    private func take(_ event: DatagramEvent) {
        switch event {
        case .datagram(let bytes, let source): take(bytes, from: source)
        // It may be forged.
        case .unreachable: break
        case .failed(let failure): end(Problem(failure))
        }
    }

    private func take(_ event: StreamEvent) {
        switch event {
        case .opened: step { client, now, actions in client.start(now: now, into: &actions) }
        case .bytes(let bytes): take(bytes, from: nil)
        case .writable: break
        case .closed(let failure?): end(Problem(failure))
        case .closed(nil): step { client, _, actions in client.connectionLost(into: &actions) }
        }
    }

    private func closeTransport() {
        port?.close()
        link?.close()
        (port, link) = (nil, nil)
    }

    /// By ALPN, for a port that serves more than TURN (RFC 7443).
    private static let protocols = ["stun.turn"]
}

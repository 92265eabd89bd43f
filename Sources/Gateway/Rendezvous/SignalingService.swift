import HTTPTypes
import Logging
import NIOCore
import OpenSSLCrypto
import Signaling
import Synchronization

/// Signaling on the gateway's connections: brings WebSockets to the hub, and the world to the hub's loop.
final class SignalingService: SignalingQueries, SignalingEntrance {
    private let runner: NIOLoopBoundBox<HubRunner>
    private let loop: any EventLoop
    private let state: GatewayState
    private let directory: any GatewayDirectory
    private let lastID = Atomic<UInt64>(0)

    init(group: any EventLoopGroup, state: GatewayState, directory: any GatewayDirectory, logger: Logger) {
        let loop = group.next()
        self.loop = loop
        self.state = state
        self.directory = directory
        runner = NIOLoopBoundBox.makeBoxSendingValue(
            HubRunner(
                HubConfiguration(state.configuration),
                loop: loop,
                directory: directory,
                probeSources: state.configuration.probeSources
            ),
            eventLoop: loop
        )
    }

    // MARK: Coming in

    /// A WebSocket of a client who may be let in: whose page is allowed, and who has proved himself or may still do so.
    func open(_ request: HTTPRequest, from source: ClientSource) async -> HTTPOutcome {
        let configuration = state.configuration
        guard configuration.isSignalingEnabled, !source.isLocal else { return .answer(.problem(404)) }
        let handshake: WebSocketHandshake
        do throws(WebSocketHandshake.Refusal) {
            handshake = try WebSocketHandshake(request, subprotocol: "turnpike.v1")
        } catch {
            return .answer(error.answer)
        }
        // Exact, and before anything else is looked at (case WS-02). Who sends no Origin is no browser, and shows
        // credentials.
        if let origin = handshake.origin, !configuration.allowedOrigins.contains(origin),
            !Self.isOwn(origin, request, source)
        {
            return .answer(.problem(403, "pages of that origin are not in signaling.allowed_origins"))
        }
        guard !state.isDraining else {
            return .answer(.problem(503, "the server is shutting down", fields: [("Retry-After", "5")]))
        }
        var grant: Grant?
        if !request.headerFields[values: .authorization].isEmpty {
            let authenticator = state.authenticator(directory)
            do throws(Authenticator.Refusal) {
                let checkedAt = NIODeadline.now().uptimeNanoseconds
                let identity = try await authenticator.caller(request, from: source)
                guard let user = identity.user else {
                    return .answer(.problem(403, "an admin token stands for no user, so it has nobody to signal as"))
                }
                guard await note(identity, checkedAt) else { return .answer(authenticator.answer(.refused)) }
                grant = await Grant(user: user, identity, directory, state, checkedAt: checkedAt)
            } catch {
                return .answer(authenticator.answer(error))
            }
        }
        let id = ConnectionID(lastID.wrappingAdd(1, ordering: .relaxed).newValue)
        let (runner, loop) = (runner, loop)
        let opening = SignalingConnection.Opening(id: id, source: source, grant: grant)
        return .upgrade(
            WebSocketAcceptance(
                handshake: handshake,
                messageBytes: configuration.maxMessageBytes,
                anteroomBytes: grant == nil ? SignalingLimits.heldBytesMax : nil
            ) { home in
                SignalingConnection(opening, home: home, hubLoop: loop, runner: runner)
            }
        )
    }

    /// Whether the page is one of this server's: it came from the host that the request came to. Only over TLS, where
    /// nobody is that host who has no certificate for it, whatever DNS says; and credentials have to be shown all the
    /// same.
    private static func isOwn(_ origin: String, _ request: HTTPRequest, _ source: ClientSource) -> Bool {
        guard source.isSecure, let host = request.authority, !host.isEmpty else { return false }
        return origin == "https://" + host
    }

    /// - Returns: false where the token was revoked meanwhile.
    private func note(_ identity: Identity, _ checkedAt: UInt64) async -> Bool {
        guard let token = identity.token, let user = identity.user else { return true }
        return await onLoop { $0.note(token: token, of: user, checkedAt: checkedAt) }
    }

    // MARK: The operator

    func reconfigure(_ configuration: GatewayConfiguration) {
        tell { $0.reconfigure(HubConfiguration(configuration)) }
    }

    func revoke(user: String) { tell { $0.revoke(user) } }

    func limit(user: String, untilSeconds: Int64) { tell { $0.limit(user, untilSeconds: untilSeconds) } }

    func revoke(token: String) { tell { $0.revoke(token: token) } }

    func keep(tokens: Set<String>) { tell { $0.keep(tokens: tokens) } }

    func drain(over window: Duration) { tell { $0.drain(over: window) } }

    func connectedUsers() async -> Set<String> { await onLoop { $0.users } }

    func statistics() async -> GatewayStatistics {
        await onLoop { runner in
            var statistics = GatewayStatistics()
            let hub = runner.statistics
            statistics.signalingConnections = hub.connections
            statistics.sessions = hub.sessions
            statistics.peers = hub.peers
            statistics.rooms = hub.rooms
            statistics.networkPairs = hub.networkPairs
            statistics.signaling = runner.counters
            return statistics
        }
    }

    /// Closes what is left, and gives the last words a moment to leave.
    func stop() async {
        await onLoop { $0.drain(over: .zero) }
        for _ in 0..<40 where await onLoop({ $0.socketCount }) > 0 {
            try? await Task.sleep(for: .milliseconds(25))
        }
    }

    // MARK: Questions

    func overview() async -> SignalingOverview {
        await onLoop { runner in
            let hub = runner.statistics
            let counters = runner.counters
            var rejections: [String: UInt64] = [:]
            for reason in RejectionReason.allCases where counters[reason] > 0 {
                rejections["\(reason)"] = counters[reason]
            }
            return SignalingOverview(
                connections: hub.connections,
                sessions: hub.sessions,
                peers: hub.peers,
                rooms: hub.rooms,
                messagesReceived: counters.messagesReceived,
                messagesSent: counters.messagesSent,
                rejections: rejections
            )
        }
    }

    func rooms(visibleTo user: String?) async -> [RoomEntry] { await onLoop { $0.rooms(visibleTo: user) } }

    func peers(in room: String, visibleTo user: String?) async -> [PeerEntry]? {
        await onLoop { $0.peers(in: room, visibleTo: user) }
    }

    func sessions(of user: String?, limit: Int) async -> [SocketEntry] {
        await onLoop { $0.sessions(of: user, limit: limit) }
    }

    func end(session id: String) async -> Bool { await onLoop { $0.kick(id) } }

    private func tell(_ body: @escaping @Sendable (HubRunner) -> Void) {
        let runner = runner
        loop.execute { body(runner.value) }
    }

    private func onLoop<Value: Sendable>(_ body: @escaping @Sendable (HubRunner) -> Value) async -> Value {
        let runner = runner
        let answer = loop.submit { body(runner.value) }
        return await withCheckedContinuation { continuation in
            answer.whenComplete { result in
                // `submit` fails only with what its body throws, and this one throws nothing.
                if case .success(let value) = result { continuation.resume(returning: value) }
            }
        }
    }
}

extension HubConfiguration {
    init(_ configuration: GatewayConfiguration) {
        self.init()
        maxMessageBytes = configuration.maxMessageBytes
        messagesPerSecond = UInt64(clamping: configuration.messagesPerSecond)
        burst = UInt64(clamping: configuration.burst)
        connectionsPerUser = configuration.connectionsPerUser
        connectionsPerAddress = configuration.connectionsPerAddress
        peerTimeoutSeconds = UInt64(clamping: configuration.peerTimeoutSeconds)
        resumeWindowSeconds = UInt64(clamping: configuration.resumeWindowSeconds)
        maxCredentialTTLSeconds = UInt64(clamping: configuration.maxCredentialSeconds)
        credentialTTLSeconds = UInt64(GatewayLimits.credentialSeconds)
        connectionsMax = GatewayLimits.connections
    }
}

extension Grant {
    /// What the hub is told of a login that held.
    init(
        user: String,
        _ identity: Identity,
        _ directory: any GatewayDirectory,
        _ state: GatewayState,
        checkedAt: UInt64
    ) async {
        let most = state.configuration.maxCredentialSeconds
        self = await Grant(
            user: user,
            identity,
            directory,
            seconds: min(GatewayLimits.credentialSeconds, most),
            checkedAt
        )
    }

    init(
        user: String,
        _ identity: Identity,
        _ directory: any GatewayDirectory,
        seconds: Int,
        _ checkedAt: UInt64
    ) async {
        let servers = await directory.iceServers(user: user, seconds: seconds)
        self.init(
            user: user,
            expiresAtWallMilliseconds: identity.expiresAtSeconds.map { Int64(clamping: $0) &* 1_000 },
            iceServers: JSONText.bytes(servers?.iceServers ?? []),
            ttlSeconds: UInt64(clamping: servers?.ttl ?? GatewayLimits.credentialSecondsMin),
            checkedAtNanoseconds: checkedAt
        )
    }
}

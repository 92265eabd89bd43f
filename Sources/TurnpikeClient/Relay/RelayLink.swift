import OpenSSLCrypto
import Traversal

/// One relay on one server by one transport: looks its name up, tries its addresses one behind the other until one
/// gives an allocation, and keeps that alive.
package final class RelayLink {
    package let server: RelayServer

    /// Until the way to the server is used when nothing else goes by it.
    var keepAliveNanoseconds = Limits.keepAlive {
        didSet { winner?.keepAliveNanoseconds = keepAliveNanoseconds }
    }

    private let network: any ClientNetwork
    private let contexts: SecureContexts
    private let families: TURNConfiguration.Families
    private var receive: ((RelayEvent) -> Void)?
    private var alarm: (any Alarm)?
    private var credential: TURNCredential
    /// Those of its name, and those not tried yet.
    private var found: [IPAddress] = []
    private var addresses: [IPAddress] = []
    private var attempts: [RelayAttempt] = []
    private var winner: RelayAttempt?
    private var nextAttemptAt = UInt64.max
    private var givesUpAt = UInt64.max
    private var worst: RelayFailure?
    /// How many have asked for each permission.
    private var permissions: [IPAddress: Int] = [:]

    package init(
        _ server: RelayServer,
        families: TURNConfiguration.Families = .both,
        network: any ClientNetwork,
        contexts: SecureContexts,
        _ receive: @escaping (RelayEvent) -> Void
    ) {
        self.server = server
        self.families = families
        self.network = network
        self.contexts = contexts
        self.receive = receive
        credential = server.credential
        alarm = network.alarm { [weak self] in self?.wake() }
    }

    deinit { for attempt in attempts + [winner].compactMap({ $0 }) { attempt.close() } }

    package func start() {
        givesUpAt = network.nowNanoseconds &+ ClientLimits.relayTime
        setAlarm()
        network.resolve(server.host) { [weak self] answer in
            guard let self, self.receive != nil, self.winner == nil else { return }
            switch answer {
            case .success(let found): self.resolved(found)
            case .failure(let failure): self.end(RelayFailure(server: self.server, cause: .network(failure)))
            }
        }
    }

    package var allocation: TURNAllocation? {
        var allocation: TURNAllocation?
        winner?.run { client, _, _ in allocation = client.allocation }
        return allocation
    }

    /// The server's address that serves, after redirections.
    package var serverEndpoint: Endpoint? { winner?.endpoint }

    /// This end of the way to the server.
    package var local: Endpoint? { winner?.local }

    /// The server, or the way to it, has answered in some way.
    package private(set) var hasShownLife = false

    /// The shortest exchange with the server so far, also of attempts that have failed.
    package private(set) var roundTripNanoseconds: UInt64?

    /// What waits to be sent on a stream.
    package var queuedBytes: Int { winner?.queuedBytes ?? 0 }

    /// Datagrams that the connection to the server was too slow for.
    package var droppedDatagrams: UInt64 { winner?.droppedDatagrams ?? 0 }

    @discardableResult
    package func send(_ data: UnsafeRawBufferPointer, to peer: Endpoint) -> TURNClient.SendOutcome {
        winner?.send(data, to: peer) ?? .noAllocation
    }

    /// Has the server let packets from that address through, until as many `release` it as have asked.
    /// - Returns: whether it does already; else `.permitted` or `.refused` follows.
    @discardableResult
    package func permit(_ peer: IPAddress) -> Bool {
        guard let winner else { return false }
        permissions[peer, default: 0] += 1
        var isPermitted = false
        winner.run { client, now, actions in
            isPermitted = client.isPermitted(peer, now: now)
            client.permit([peer], now: now, into: &actions)
        }
        return isPermitted
    }

    package func release(_ peer: IPAddress) {
        guard let count = permissions[peer] else { return }
        permissions[peer] = count > 1 ? count - 1 : nil
        if count <= 1 { winner?.run { client, _, _ in client.forget(peer) } }
    }

    /// Spares 36 bytes a datagram to and from that peer.
    package func bindChannel(to peer: Endpoint) {
        winner?.run { $0.bindChannel(to: peer, now: $1, into: &$2) }
    }

    /// Another credential for the same user, as before a time-limited one expires.
    package func renew(_ credential: TURNCredential) {
        self.credential = credential
        for attempt in attempts + [winner].compactMap({ $0 }) {
            attempt.run { $0.renew(credential, now: $1, into: &$2) }
        }
    }

    /// This machine's addresses have changed.
    package func move() { winner?.move() }

    /// This machine has these addresses, which are others than before.
    /// - Returns: false where the link cannot go on: another one has to begin.
    package func move(to addresses: [IPAddress]) -> Bool {
        let present = Set(addresses.map(\.withoutLink))
        func goesOn(_ attempt: RelayAttempt) -> Bool {
            guard let local = attempt.local?.address.withoutLink else { return isReachable(attempt) }
            return present.contains(local)
        }
        func isReachable(_ attempt: RelayAttempt) -> Bool {
            !AddressRace.order([attempt.endpoint.address], local: addresses).isEmpty
        }
        guard let winner else { return attempts.allSatisfy(goesOn) }
        if !winner.isResting, goesOn(winner) { return true }
        if AddressRace.families(addresses).isEmpty, winner.isMobile {
            // Between two networks there is a moment without any.
            winner.rest()
            return true
        }
        if isReachable(winner) {
            winner.move()
            return true
        }
        // From here the server has to be reached by its address of the other family, unless it was one that another
        // server has named.
        guard winner.isMobile, found.contains(winner.endpoint.address),
            let other = AddressRace.order(found, local: addresses).first
        else { return false }
        winner.move(to: Endpoint(address: other, port: winner.endpoint.port))
        return true
    }

    /// Has the server say whether it is there still. If it does not, `.silent` follows.
    package func check() { winner?.check() }

    /// Sends again what is not answered yet.
    func hurry() { for attempt in attempts + [winner].compactMap({ $0 }) { attempt.hurry() } }

    /// Gives the allocation back. Nothing is told any more.
    package func close() {
        receive = nil
        drop()
    }

    // MARK: Attempts

    private func resolved(_ found: [IPAddress]) {
        self.found = found
        addresses = AddressRace.order(found, local: network.localAddresses().map(\.address))
        guard !addresses.isEmpty else { return end(RelayFailure(server: server, cause: .noFamily)) }
        beginNext()
    }

    private func beginNext() {
        guard receive != nil, winner == nil else { return }
        guard !addresses.isEmpty else {
            nextAttemptAt = .max
            if attempts.isEmpty { end(worst ?? RelayFailure(server: server, cause: .tooLate)) }
            return setAlarm()
        }
        let address = addresses.removeFirst()
        var server = server
        server.credential = credential
        nextAttemptAt = addresses.isEmpty ? .max : network.nowNanoseconds &+ ClientLimits.addressStagger
        setAlarm()
        var attempt: RelayAttempt?
        let made = RelayAttempt(
            server,
            at: Endpoint(address: address, port: server.port),
            families: families,
            network: network,
            contexts: contexts
        ) { [weak self] event in
            guard let self, let attempt else { return }
            self.take(event, of: attempt)
        }
        attempt = made
        attempts.append(made)
        made.begin()
    }

    private func take(_ event: RelayAttempt.Event, of attempt: RelayAttempt) {
        if let time = attempt.roundTripNanoseconds {
            roundTripNanoseconds = min(roundTripNanoseconds ?? .max, time)
        }
        switch event {
        case .promising:
            hasShownLife = true
            // What is on its way to an allocation gets time for it before another address is troubled.
            guard winner == nil, nextAttemptAt != .max else { return }
            nextAttemptAt = network.nowNanoseconds &+ ClientLimits.promiseTime
            setAlarm()
        case .allocated(let allocation):
            guard winner == nil else { return attempt.close() }
            winner = attempt
            attempt.keepAliveNanoseconds = keepAliveNanoseconds
            for other in attempts where other !== attempt { other.close() }
            attempts = []
            addresses = []
            alarm?.set(at: nil)
            receive?(.allocated(allocation))
        case .turn(let action): pass(action)
        case .silent: if attempt === winner { receive?(.silent) }
        case .ended(let failure):
            if attempt === winner {
                winner = nil
                return end(failure)
            }
            attempts.removeAll { $0 === attempt }
            if let failure, failure.weight >= worst?.weight ?? 0 { worst = failure }
            if let failure, failure.isAboutUser { addresses = [] }
            beginNext()
        }
    }

    private func pass(_ action: TURNAction) {
        switch action {
        case .received(let bytes, let peer):
            bytes.withUnsafeBytes { receive?(.received($0, from: peer)) }
        case .permitted(let peers): receive?(.permitted(peers))
        case .refused(let peer, let failure):
            permissions[peer] = nil
            receive?(.refused(peer, failure))
        case .peerError(let peer, let type, let code): receive?(.peerError(peer, type: type, code: code))
        case .renewed: receive?(.renewed)
        case .renewalRefused(let failure):
            receive?(.renewalRefused(RelayFailure(server: server, cause: .turn(failure))))
        case .channelBound, .send, .reconnect, .allocated, .ended: break
        }
    }

    private func wake() {
        guard receive != nil, winner == nil else { return }
        let now = network.nowNanoseconds
        if now >= givesUpAt {
            return end(worst ?? RelayFailure(server: server, cause: attempts.isEmpty ? .tooLate : silence))
        }
        if now >= nextAttemptAt { beginNext() }
        setAlarm()
    }

    private func setAlarm() {
        guard receive != nil, winner == nil else { return }
        alarm?.set(at: min(givesUpAt, nextAttemptAt))
    }

    /// The server has not answered in the time that there is, which is shorter than a transaction may take.
    private var silence: RelayFailure.Cause {
        guard let endpoint = attempts.first?.endpoint else { return .tooLate }
        return .turn(
            TURNFailure(
                reason: .serverSilent,
                operation: .allocate,
                server: endpoint,
                transport: server.transport
            )
        )
    }

    private func end(_ failure: RelayFailure?) {
        let receive = receive
        self.receive = nil
        drop()
        receive?(.ended(failure))
    }

    private func drop() {
        alarm?.set(at: nil)
        alarm = nil
        for attempt in attempts + [winner].compactMap({ $0 }) { attempt.close() }
        attempts = []
        winner = nil
        permissions = [:]
    }
}

extension RelayFailure {
    /// The server's other addresses would say the same.
    fileprivate var isAboutUser: Bool {
        guard case .turn(let failure) = cause else { return false }
        switch failure.reason {
        case .wrongCredentials, .quotaReached, .longCredential: return true
        default: return false
        }
    }
}

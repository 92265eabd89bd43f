import Signaling

extension PeerClient {
    // MARK: Registration

    func register(_ id: PeerID, metadata: JSONText, _ done: @escaping (Result<Void, SignalingError>) -> Void) {
        guard let signaling, phase == .running else { return done(.failure(noSignaling)) }
        // What has never worked will not within the time that anybody waits; what has worked comes back.
        if !signaling.hasBeenUp, signaling.problem != nil { return done(.failure(unreachable)) }
        var isOver = false
        var alarm: (any Alarm)?
        let end = { (result: Result<Void, SignalingError>) in
            guard !isOver else { return }
            isOver = true
            alarm?.set(at: nil)
            alarm = nil
            done(result)
        }
        alarm = network.alarm { [weak self] in
            end(.failure(self?.unreachable ?? SignalingError(.closed, "The coordinator is shut down")))
        }
        alarm?.set(at: now.addingClamped(configuration.connectionTimeout.clampedNanoseconds))
        signaling.register(id, metadata: metadata, end)
    }

    /// With what is known of the reason.
    private var unreachable: SignalingError {
        if let problem = signalingProblems.first { return SignalingError(.unreachable, problem) }
        return SignalingError(
            .timedOut,
            "The signaling server did not answer in time",
            mend: "check the connection to it, or wait longer"
        )
    }

    func unregister(_ id: PeerID, _ done: @escaping () -> Void) {
        registered.removeAll { $0 == id }
        for (key, session) in sessions where key.local == id { session.close() }
        guard let signaling, phase == .running else { return done() }
        signaling.unregister(id) { _ in done() }
    }

    var noSignaling: SignalingError {
        if phase != .running {
            return SignalingError(.closed, "The coordinator does not run", mend: "call initialize() first")
        }
        guard serverURL != nil else {
            return SignalingError(.unreachable, "There is no signaling server", mend: "set SIGNALING_SERVER")
        }
        return SignalingError(
            .unauthenticated,
            "The signaling server needs a user",
            mend: "set TURN_USERNAME and TURN_PASSWORD, or a token"
        )
    }

    /// The id that connections are made from: the first one registered, or one that is registered for it.
    func withLocalID(for peer: PeerID, _ done: @escaping (Result<PeerID, ConnectionFailure>) -> Void) {
        if let first = registered.first { return done(.success(first)) }
        defaultRegistration.append(done)
        guard defaultRegistration.count == 1 else { return }
        let user = Substring(configuration.username ?? "").split(separator: ":", maxSplits: 1).last.map(String.init)
        let suffix = String(network.cryptography.randomWord() >> 24, radix: 36)
        let id = configuration.peerID ?? PeerID("\(user ?? "peer")/\(suffix)")
        register(id, metadata: .emptyObject) { [weak self] result in
            guard let self else { return }
            let answer = result.map { id }.mapError { error in
                ConnectionFailure(
                    peerId: peer,
                    reason: .signaling,
                    error: error.description,
                    report: ConnectionReport(notes: self.problems)
                )
            }
            let waiting = defaultRegistration
            defaultRegistration = []
            for done in waiting { done(answer) }
        }
    }

    // MARK: Connections

    /// - Parameter done: called within the options' timeout.
    /// - Returns: what `cancel` wants.
    func connect(
        _ peer: PeerID,
        _ options: ConnectOptions,
        _ done: @escaping (Result<PeerSession, ConnectionFailure>) -> Void
    ) -> UInt64 {
        nextNumber &+= 1
        let waiter = PeerSession.Waiter(
            number: nextNumber,
            require: options.require,
            deadline: now.addingClamped((options.timeout ?? configuration.connectionTimeout).clampedNanoseconds),
            done: done
        )
        guard phase == .running, signaling != nil else {
            refuse(waiter, peer, .signaling, noSignaling.description)
            return waiter.number
        }
        unplaced[waiter.number] = (waiter, peer)
        setUnplacedAlarm()
        withLocalID(for: peer) { [weak self] result in
            // It may be too late, or cancelled.
            guard let self, unplaced.removeValue(forKey: waiter.number) != nil else { return }
            switch result {
            case .success(let local): connect(from: local, to: peer, waiter)
            case .failure(let failure): refuse(waiter, peer, failure.reason, failure.error)
            }
        }
        return waiter.number
    }

    func setUnplacedAlarm() { unplacedAlarm.set(at: unplaced.values.map(\.waiter.deadline).min()) }

    func expireUnplaced() {
        for (number, entry) in unplaced where now >= entry.waiter.deadline {
            unplaced[number] = nil
            refuse(entry.waiter, entry.peer, .signaling, unreachable.description)
        }
        setUnplacedAlarm()
    }

    func connect(from local: PeerID, to peer: PeerID, _ waiter: PeerSession.Waiter) {
        if registered.contains(peer) {
            return refuse(waiter, peer, .peerNotFound, "\(peer) is an id of this coordinator itself")
        }
        if let session = sessions[SessionKey(local: local, remote: peer)], session.accepts(waiter) {
            return session.wait(waiter)
        }
        guard let session = makeSession(local, peer) else {
            return refuse(waiter, peer, .limit, "there are \(ClientLimits.sessions) connections: close some")
        }
        session.isRelayOnly = waiter.require == .relay
        session.wait(waiter)
        session.begin()
    }

    func refuse(
        _ waiter: PeerSession.Waiter,
        _ peer: PeerID,
        _ reason: ConnectionFailure.Reason,
        _ text: String
    ) {
        let report = ConnectionReport(notes: problems)
        let failure = ConnectionFailure(peerId: peer, reason: reason, error: text, report: report)
        counts.failed += 1
        onEvent(.connectionFailed(failure))
        waiter.done(.failure(failure))
    }

    func cancel(_ number: UInt64) {
        if let (waiter, peer) = unplaced.removeValue(forKey: number) {
            return refuse(waiter, peer, .cancelled, "the call was cancelled")
        }
        for session in Array(sessions.values) { session.stopWaiting(number) }
    }
}

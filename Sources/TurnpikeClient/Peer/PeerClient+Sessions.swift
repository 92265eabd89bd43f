import DataChannels
import Signaling
import Traversal

extension PeerClient: SessionHost {
    func tell(
        _ kind: SignalingMessageKind,
        _ payload: JSONValue,
        from: PeerID,
        to: PeerID,
        failed: @escaping (SignalingError) -> Void
    ) {
        guard let signaling else { return failed(noSignaling) }
        var payload = payload
        if kind != .candidate, case .object(var members) = payload, servers.natTypeForPeers != .unknown {
            // Browsers pass it over; our peers recommend a strategy by it.
            members["nat"] = .string(servers.natTypeForPeers.rawValue)
            let facts = networkFacts
            members[NetworkFacts.member] = facts.signaled
            payload = .object(members)
            sessions[SessionKey(local: from, remote: to)]?.toldNetwork = facts.told
        }
        signaling.send(kind, JSONText(payload), from: from, to: to, failed: failed)
    }

    func networkFacts(of peer: PeerID) -> NetworkFacts? { peerNetworks[peer] }

    var serverClock: ServerClock? { signaling?.clock }

    func resumer(_ session: UInt64) -> @Sendable () -> Void { resume(session) }

    func user(of channel: DataChannel, in session: PeerSession) -> (any ChannelUser)? {
        channelTaker?(channel, session)
    }

    func opening(_ session: PeerSession) { onEvent(.opening(session)) }

    func opened(_ session: PeerSession) {
        counts.succeeded += 1
        // It may have been direct before anybody was told of it.
        if session.isDirect { session.hasBeenDirect = true } else { counts.relayed += 1 }
        if session.isDirect, let path = session.link?.agent.path { session.reportDirect(path) }
        if session.hasBeenDirect { counts.punched += 1 }
        onEvent(.connected(session))
        tellNetwork(in: session)
    }

    func pathChanged(_ session: PeerSession, to path: ICEPath?) {
        guard let connection = session.connection else { return }
        connection.note(roundTripNanoseconds: session.link?.agent.roundTripNanoseconds)
        guard connection.note(path) else { return }
        if session.hasBeenDirect, !session.isDirect {
            gatherer.askAgain()
            portMappings?.verify()
        }
        if session.isDirect, let path { session.reportDirect(path) }
        if session.isDirect, !session.hasBeenDirect {
            session.hasBeenDirect = true
            if session.isAnnounced { counts.punched += 1 }
        }
        if session.isAnnounced { onEvent(.pathChanged(session)) }
    }

    func ended(_ session: PeerSession, _ end: PeerLink.End) {
        forget(session)
        if session.isAnnounced { onEvent(.disconnected(session, reason: end.words)) }
    }

    func failed(_ session: PeerSession, _ failure: ConnectionFailure) {
        forget(session)
        counts.failed += 1
        onEvent(.connectionFailed(failure))
    }

    var punchFacts: PunchFacts? {
        guard configuration.symmetricPunching != .never, let report = servers.natReport,
            let server = report.answeringServers.first(where: { $0.address.isIPv4 }),
            let own = PunchReport(report, wish: PunchReport.Wish(configuration.symmetricPunching))
        else { return nil }
        // The address that servers see is the one of this socket; a machine may have others.
        let reflexive = gatherer.candidates.first { $0.type == .serverReflexive && $0.endpoint.address == own.address }
        guard let address = reflexive?.baseEndpoint.address ?? report.local?.address else { return nil }
        return PunchFacts(report: own, server: server, address: address)
    }

    var aimFacts: StreamAim.Facts? {
        let tcp = servers.nat.tcp
        guard configuration.symmetricPunching != .never, tcp == nil || tcp?.portStep != nil,
            let answered = gatherer.streamServer
        else { return nil }
        return StreamAim.Facts(server: answered.server, address: answered.address, step: tcp?.portStep)
    }

    var aimsStreams: Bool {
        let mapping = servers.nat.tcp?.mapping
        return configuration.symmetricPunching != .never && (mapping == nil || mapping == "endpoint-independent")
    }

    // MARK: What comes

    func take(_ event: SignalingLink.Event) {
        switch event {
        case .up(let welcome):
            takesReports = true
            servers.use(welcome.iceServers)
            servers.noteSignaling()
            if !welcome.isResumed { for session in Array(sessions.values) { session.noteSignalingBeganAnew() } }
        case .iceServers(let found): servers.use(found)
        case .down: servers.noteSignaling()
        case .closed: break
        case .registered(let id):
            if !registered.contains(id) { registered.append(id) }
            onEvent(.peerRegistered(id))
        case .registrationLost(let id, _): registered.removeAll { $0 == id }
        case .message(let message): take(message)
        }
        finishStartIfReady()
    }

    func take(_ message: SignalingMessage) {
        guard phase == .running else { return }
        let key = SessionKey(local: PeerID(message.to), remote: PeerID(message.from))
        guard registered.contains(key.local) else { return }
        let payload = message.payload.value
        if let text = payload["nat"]?.string, let type = NATType(rawValue: text) {
            if peerNATs.count >= ClientLimits.peersRemembered { peerNATs.removeAll() }
            peerNATs[key.remote] = type
        }
        if let facts = NetworkFacts(signaled: payload) {
            if peerNetworks.count >= ClientLimits.peersRemembered { peerNetworks.removeAll() }
            peerNetworks[key.remote] = facts
        }
        switch message.kind {
        case .offer: takeOffer(payload, key)
        case .answer: sessions[key]?.takeAnswer(payload)
        case .candidate: sessions[key]?.takeCandidate(payload)
        case .signal: if !takeMemory(payload, key) { sessions[key]?.takeSignal(payload) }
        }
    }

    func takeOffer(_ payload: JSONValue, _ key: SessionKey) {
        if let session = sessions[key], session.isReplaced(by: payload) {
            // The program at the other end has begun anew.
            session.end(.closedByPeer)
        }
        if let session = sessions[key] { return session.takeOffer(payload) }
        guard let session = makeSession(key.local, key.remote) else { return }
        session.deadline = now.addingClamped(configuration.connectionTimeout.clampedNanoseconds)
        session.takeOffer(payload)
        session.setAlarm()
    }

    /// A relay does not relay to that peer.
    func refuse(_ peer: IPAddress, on base: ICEBase) {
        for session in sessions.values {
            session.link?.ice { agent, now, actions in agent.refuse(peer, on: base, now: now, into: &actions) }
        }
    }

    func take(_ change: Gatherer.Change) {
        if case .renumbered(let address) = change {
            signaling?.noteRenumbered(address)
            return
        }
        for session in sessions.values {
            switch change {
            case .added(let candidate): session.link?.add(candidate)
            case .removed(let base): session.link?.remove(base)
            case .completed: session.link?.endCandidates()
            case .renumbered: break
            }
        }
        mapPorts(after: change)
        finishStartIfReady()
    }
}

import DataChannels
import Signaling
import Traversal

/// Which section of the descriptions candidates belong to, as `ice-candidate` says.
struct CandidateSection {
    var mid = "0"
    var index = 0

    init() {}

    init(_ description: SessionDescription) {
        for (index, section) in description.sections.enumerated() {
            if case .data(let data) = section {
                (mid, self.index) = (data.mid, index)
                return
            }
        }
    }
}

extension PeerSession {
    // MARK: To the peer

    func offer() {
        guard let link else { return }
        version += 1
        (hasOffered, offeredAt) = (true, now)
        section = CandidateSection()
        var description = SessionDescription(
            sessionID: descriptionID,
            offering: link.describe(isOffer: true),
            maxMessageBytes: DataChannelOptions().maxMessageBytes
        )
        description.version = version
        // What goes wrong with it goes well without it, the next time.
        let flight = attempts <= 1 ? link.offerFlight() : nil
        tell(.offer, "offer", description, inReplyTo: nil, with: flight)
    }

    private func answer(_ offer: SessionDescription, _ payload: JSONValue) {
        guard let link else { return }
        version += 1
        section = CandidateSection(offer)
        let description = offer.answer(
            sessionID: descriptionID,
            transport: link.describe(isOffer: false),
            maxMessageBytes: DataChannelOptions().maxMessageBytes
        )
        guard var description else { return }
        description.version = version
        tell(.answer, "answer", description, inReplyTo: payload["session"]?.string, with: link.carried.answer)
    }

    /// - Parameters:
    ///   - session: the offer that this answers, where it named itself. Browsers pass it over.
    ///   - flight: of the handshakes, likewise.
    private func tell(
        _ kind: SignalingMessageKind,
        _ type: String,
        _ description: SessionDescription,
        inReplyTo session: String?,
        with flight: HandshakeFlight?
    ) {
        hasDescribed = true
        var members = ["type": JSONValue.string(type), "sdp": .string(description.text)]
        if let session = kind == .offer ? offerName : session { members["session"] = .string(session) }
        if let flight { members[HandshakeFlight.member] = .object(flight.members) }
        let (attempt, told) = (attempts, version)
        host.tell(kind, .object(members), from: local, to: remote) { [weak self] error in
            guard let self, attempts == attempt else { return }
            // The peer has not had the offer of a restart, so that its own counts when it comes.
            if phase == .open, kind == .offer, version == told { hasOffered = false }
            guard phase == .connecting else { return }
            if error.reason == .notFound {
                let words = "Peer not found: the signaling server knows no \(remote); check that it has registered"
                return give(up: failure(.peerNotFound, words))
            }
            failAttempt(.signaling, error.description)
        }
    }

    private var offerName: String { "\(descriptionID).\(version)" }

    func tell(_ candidate: ICECandidate) {
        guard hasDescribed else { return }
        tell(candidateLine: CandidateLine.text(candidate))
    }

    func tellEnd() {
        // W3C WebRTC section 4.8.1.3: an empty candidate says that no others follow.
        if hasDescribed { tell(candidateLine: "") }
    }

    private func tell(candidateLine line: String) {
        guard let link else { return }
        let payload = JSONValue.object([
            "candidate": .string(line),
            "sdpMid": .string(section.mid),
            "sdpMLineIndex": .number(Double(section.index)),
            "usernameFragment": .string(link.agent.localCredentials.usernameFragment),
        ])
        host.tell(.candidate, payload, from: local, to: remote) { _ in }
    }

    // MARK: From the peer

    /// Whether an offer is of another program than the one at the other end, or of another connection of it.
    func isReplaced(by payload: JSONValue) -> Bool {
        guard phase == .open, case .success((let offer, let data)) = Self.description(payload, "offer") else {
            return false
        }
        return remoteDescriptionID != offer.sessionID || remoteFingerprints != data.transport.fingerprints
    }

    func takeOffer(_ payload: JSONValue) {
        let offer: SessionDescription
        let data: DataSection
        switch Self.description(payload, "offer") {
        case .success((let parsed, let section)): (offer, data) = (parsed, section)
        case .failure(let problem): return refuse(problem)
        }
        isTurnpikePeer = payload["session"]?.string != nil
        let isSamePeer = remoteDescriptionID == offer.sessionID && remoteFingerprints == data.transport.fingerprints
        if hasOffered {
            // Both have made an offer: the lower id's counts.
            if local < remote { return }
            hasOffered = false
            if !isSamePeer { replaceLink(isOfferer: false) }
        } else if !isSamePeer {
            replaceLink(isOfferer: false)
            pathLostAt = nil
        } else if let link, let known = link.remoteData?.transport,
            known.iceUfrag != data.transport.iceUfrag
        {
            // RFC 8839 section 4.4.1.1.1: other credentials, of which both parts change, are a restart on this side
            // too.
            link.restart()
        }
        accept(offer, data, payload)
    }

    private func refuse(_ problem: LinkProblem) {
        // An offer that is no good does no harm to what there is.
        if link == nil { give(up: failure(.description, "the peer's offer is of no use: \(problem.text)")) }
    }

    private func accept(_ offer: SessionDescription, _ data: DataSection, _ payload: JSONValue) {
        guard let link else { return }
        remoteDescriptionID = offer.sessionID
        remoteFingerprints = data.transport.fingerprints
        do throws(LinkProblem) {
            try link.setRemote(data, with: Self.flight(payload))
        } catch {
            return failAttempt(error.reason, "the peer's offer is of no use: \(error.text)")
        }
        takeEarlyCandidates()
        answer(offer, payload)
        awaitStreamPlan()
        punch?.update()
    }

    func takeAnswer(_ payload: JSONValue) {
        guard hasOffered, let link else { return }
        // The answer to an offer that was taken back.
        if let name = payload["session"]?.string, name != offerName { return }
        switch Self.description(payload, "answer") {
        case .success((let answer, let data)):
            // Another program at the other end, or another connection of it, which has none of this one's keys.
            if phase == .open, Set(remoteFingerprints).isDisjoint(with: data.transport.fingerprints) {
                return end(.closedByPeer)
            }
            hasOffered = false
            remoteDescriptionID = answer.sessionID
            remoteFingerprints = data.transport.fingerprints
            do throws(LinkProblem) {
                try link.setRemote(data, with: Self.flight(payload))
            } catch {
                return failAttempt(error.reason, "the peer's answer is of no use: \(error.text)")
            }
            takeEarlyCandidates()
            planStreams()
            punch?.update()
        case .failure(let problem):
            failAttempt(.description, "the peer's answer is of no use: \(problem.text)")
        }
    }

    func takeCandidate(_ payload: JSONValue) {
        guard let link, link.remoteData != nil, !hasOffered || phase == .open else {
            if earlyCandidates.count < ClientLimits.earlyCandidates { earlyCandidates.append(payload) }
            return
        }
        add(payload, to: link)
    }

    private func takeEarlyCandidates() {
        guard let link else { return }
        let early = earlyCandidates
        earlyCandidates = []
        for payload in early { add(payload, to: link) }
    }

    private func add(_ payload: JSONValue, to link: PeerLink) {
        // Some send the line alone.
        guard let line = (payload["candidate"] ?? payload).string else { return }
        if line.isEmpty { return link.endRemoteCandidates() }
        if let fragment = payload["usernameFragment"]?.string, let known = link.remoteData?.transport.iceUfrag,
            fragment != known
        {
            // Of a session that is over, or whose description is on its way.
            if earlyCandidates.count < ClientLimits.earlyCandidates { earlyCandidates.append(payload) }
            return
        }
        link.addRemote(line)
    }

    private static func flight(_ payload: JSONValue) -> HandshakeFlight {
        payload[HandshakeFlight.member].map { HandshakeFlight($0) } ?? HandshakeFlight()
    }

    private static func description(
        _ payload: JSONValue,
        _ type: String
    ) -> Result<(SessionDescription, DataSection), LinkProblem> {
        guard let text = payload["sdp"]?.string, payload["type"]?.string ?? type == type else {
            return .failure(LinkProblem("it has no SDP of type \(type)"))
        }
        do throws(SessionDescriptionError) {
            let description = try SessionDescription(parsing: text)
            guard let data = description.data else {
                return .failure(LinkProblem("its SDP has no section for data channels"))
            }
            return .success((description, data))
        } catch {
            return .failure(LinkProblem(error.description))
        }
    }
}

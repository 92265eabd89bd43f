import STUN

/// Two NATs with one address for everybody, and yet ordinary checks have not met. So it is where a NAT takes note of
/// what nobody asked for (Linux does, where its own firewall lets it in): a host behind it that then sends to where
/// that came from gets another port, which the other side's NAT keeps out. Fresh sockets have no such notes. One side
/// sends first from a port that a server has seen, and only then tells it; nothing is guessed. It has to be the side
/// whose NAT takes notes, and neither knows whose does, so the two take turns.
extension Puncher {
    /// Whether this side sends last, and is told where to.
    private var asks: Bool { (attempt &- session.firstAttempt).isMultiple(of: 2) == begins }

    func beginFixed() {
        noteAttempt()
        clearFixed()
        endsAt = after(PunchLimits.answerTime)
        if asks { openSocket() } else { ask(.measure(attempt: attempt)) }
    }

    /// The peer has begun an attempt, and wants to know where to send to first.
    func measureFixed(_ number: UInt32) {
        if number == attempt, isMeasuring {
            if let answer { actions.append(.tell(answer)) }
            return
        }
        guard follow(number), asks else { return refuse() }
        isMeasuring = true
        openSocket()
    }

    /// The peer is there, and has not sent anything here.
    func openFixed(_ number: UInt32, toward endpoint: Endpoint) {
        if number == attempt, endpoint == asker {
            if let answer { actions.append(.tell(answer)) }
            return
        }
        let isAwaited = begins && number == attempt && asker == nil
        guard PunchTarget.isAllowed(endpoint.address), endpoint.port != 0, isAwaited || follow(number), !asks else {
            return refuse()
        }
        noteAnswer()
        asker = endpoint
        openSocket(toward: endpoint)
    }

    /// The peer has sent from there.
    func approachFixed(_ number: UInt32, at address: IPAddress, _ ports: PunchPorts) {
        guard number == attempt, asks, ownEndpoint != nil, target == nil, PunchTarget.isAllowed(address),
            case .list(let list) = ports, let port = list.first, let socket = row.first
        else { return refuse() }
        noteAnswer()
        target = address
        endsAt = max(after(PunchLimits.meetingTime), begins ? 0 : endsAt)
        sockets[socket]?.target = Endpoint(address: address, port: port)
        sockets[socket]?.next = now
    }

    func measuredFixed(_ sample: Sample) {
        guard ownEndpoint == nil, let mapped = sample.mapped else { return }
        ownEndpoint = mapped
        row = [sample.socket]
        if asks {
            let told = PunchMessage.ready(attempt: attempt, at: mapped)
            if !begins { answer = told }
            return ask(told)
        }
        // Before the peer knows the port, so that nothing of its comes first.
        sendFixed(sample.socket)
        let told = PunchMessage.opened(attempt: attempt, at: mapped.address, .list([mapped.port]))
        answer = told
        actions.append(.tell(told))
        if begins { endsAt = after(session.roundTrip &+ PunchLimits.meetingTime) }
    }

    func continueFixed() {
        for number in row where now >= sockets[number]?.next ?? .max { sendFixed(number) }
        guard now >= endsAt else { return }
        noteAnswer()
        let made = attempt &- session.firstAttempt &+ 1
        guard begins, made < PunchLimits.fixedAttempts else {
            if begins { actions.append(.tell(.cancel)) }
            return end(.missed)
        }
        attempt &+= 1
        beginFixed()
    }

    private func sendFixed(_ number: Int) {
        guard let socket = sockets[number], let target = socket.target, isAdmitted(target.address) else { return }
        // What opens this side's NAT is not to reach the peer's, as long as it has not sent.
        let limits = asks ? [] : PunchLimits.hopLimits
        sendProbe(number, to: target, hopLimit: socket.sent < limits.count ? limits[socket.sent] : nil)
        sockets[number]?.sent += 1
        sockets[number]?.next = after(PunchLimits.openerPause)
    }

    /// - Returns: whether the number is that of the peer's next attempt, which this side now takes part in.
    private func follow(_ number: UInt32) -> Bool {
        let isFirst = number == attempt && ownEndpoint == nil && row.isEmpty && !isMeasuring && asker == nil
        guard !begins, isFirst || number > attempt,
            number &- session.firstAttempt < PunchLimits.fixedAttempts
        else { return false }
        attempt = number
        noteAttempt()
        clearFixed()
        endsAt = after(PunchLimits.silence)
        return true
    }

    private func clearFixed() {
        for number in sockets.keys.sorted() where sockets[number]?.hasHit != true { close(number) }
        (samples, row, ownEndpoint, asker, target, answer, isMeasuring) = ([], [], nil, nil, nil, nil, false)
    }
}

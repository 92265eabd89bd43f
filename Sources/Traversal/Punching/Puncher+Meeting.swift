import STUN

/// Two NATs that count. Each side asks a server what comes next, and tells it; then each opens a row of sockets, all of
/// which send to the port that will be the middle of the other's row. The two sockets in the middle find each other.
/// Connections of others only shift the rows, by fewer than half of their length.
extension Puncher {
    /// Both sides measure at about the same time, and at once before they are needed.
    func propose() {
        noteAttempt()
        clearAttempt()
        endsAt = after(PunchLimits.answerTime)
        startsAt = after(session.roundTrip / 2)
        ask(.measure(attempt: attempt))
    }

    func measure(_ number: UInt32) {
        if number == attempt, isMeasuring {
            if let ownBase { actions.append(.tell(.base(attempt: attempt, at: ownBase))) }
            return
        }
        guard number >= attempt,
            number &- session.firstAttempt < PunchLimits.meetingAttempts
        else { return refuse() }
        attempt = number
        noteAttempt()
        clearAttempt()
        isMeasuring = true
        endsAt = after(PunchLimits.silence)
        openSocket()
    }

    private func clearAttempt() {
        for number in sockets.keys.sorted() where sockets[number]?.hasHit != true { close(number) }
        (samples, row, peerBase, ownBase, toOpen, startsAt) = ([], [], nil, nil, 0, .max)
    }

    func preparedToMeet(_ number: Int) {
        guard sockets[number]?.target != nil else { return sample(number) }
        guard !row.isEmpty, row.allSatisfy({ sockets[$0]?.local != nil }) else { return }
        for member in row { sockets[member]?.next = now }
    }

    func tellBase(_ sample: Sample) {
        guard ownBase == nil, let mapped = sample.mapped else { return }
        ownBase = mapped
        actions.append(.tell(.base(attempt: attempt, at: mapped)))
        openRow()
    }

    func approach(_ number: UInt32, _ endpoint: Endpoint) {
        guard number == attempt, peerBase == nil, PunchTarget.isAllowed(endpoint.address) else { return refuse() }
        noteAnswer()
        peerBase = endpoint
        openRow()
    }

    private func openRow() {
        guard let peerBase, ownBase != nil, row.isEmpty, case .meet(_, let peerStep) = plan else { return }
        let aim = Int(peerBase.port) + PunchLimits.aimedSocket * peerStep
        // Where the count is about to begin anew, the next attempt finds it further on.
        guard Int(PunchLimits.anyPort.lowerBound)...Int(PunchLimits.anyPort.upperBound) ~= aim,
            let port = UInt16(exactly: aim)
        else { return }
        let target = Endpoint(address: peerBase.address, port: port)
        endsAt = max(after(PunchLimits.meetingTime), begins ? 0 : endsAt)
        row = (0..<PunchLimits.socketsToMeet).map { _ in openSocket(toward: target) }
    }

    func continueMeeting() {
        if now >= startsAt {
            startsAt = .max
            openSocket()
        }
        for number in row where now >= sockets[number]?.next ?? .max {
            guard let socket = sockets[number], let target = socket.target, isAdmitted(target.address) else { break }
            let isFirst = socket.sent == 0 && attempt &- session.firstAttempt < 2
            sendProbe(number, to: target, hopLimit: isFirst ? PunchLimits.hopLimits[0] : nil)
            sockets[number]?.sent += 1
            sockets[number]?.next = after(PunchLimits.openerPause)
        }
        guard now >= endsAt else { return }
        noteAnswer()
        let made = attempt &- session.firstAttempt &+ 1
        guard begins, made < PunchLimits.meetingAttempts else {
            if begins { actions.append(.tell(.cancel)) }
            return end(.missed)
        }
        attempt &+= 1
        propose()
    }
}

import STUN

/// The side with another port for each destination: it opens ports toward the peer, and says where they may be.
extension Puncher {
    func open(_ number: UInt32, toward endpoint: Endpoint) {
        // It asks again: the answer was lost, or has not been there yet.
        if number == attempt, endpoint == asker {
            if let answer { actions.append(.tell(answer)) }
            return
        }
        guard number > attempt || asker == nil, number &- session.firstAttempt < PunchLimits.guessAttempts,
            PunchTarget.isAllowed(endpoint.address), endpoint.port != 0
        else {
            return refuse()
        }
        attempt = number
        noteAttempt()
        (asker, answer, samples, measuredAt) = (endpoint, nil, [], .max)
        // An opener of the attempt before may be found yet: it stays, and is repeated no more.
        for number in sockets.keys { sockets[number]?.next = .max }
        guard case .open(let ports) = plan else { return }
        switch ports {
        case .counted: openBetween(endpoint)
        case .preserved:
            makeRoom(for: PunchLimits.socketsForPreserved)
            endsAt = after(PunchLimits.silence)
            row = (0..<PunchLimits.socketsForPreserved).map { _ in openSocket(toward: endpoint) }
        case .block(let block): openMany(PunchLimits.socketsForBlock, endpoint, .range(block), PunchLimits.blockTime)
        case .any: openMany(PunchLimits.socketsForAny, endpoint, .range(PunchLimits.anyPort), PunchLimits.searchTime)
        }
    }

    private func openMany(_ count: Int, _ endpoint: Endpoint, _ ports: PunchPorts, _ time: UInt64) {
        endsAt = after(time &+ PunchLimits.answerTime)
        guard gate.beginSearch(endpoint.address, until: endsAt, now: now) else {
            actions.append(.tell(.cancel))
            return end(.busy)
        }
        searched = endpoint.address
        makeRoom(for: count)
        toOpen = count
        // The peer's first probes come about when the first sockets are there.
        tellPorts(ports)
    }

    private func openBetween(_ endpoint: Endpoint) {
        endsAt = after(PunchLimits.silence)
        makeRoom(for: 3)
        let first = openSocket()
        let middle = openSocket(toward: endpoint)
        row = [first, middle, openSocket()]
    }

    func preparedToOpen(_ number: Int) {
        guard let asker, case .open(let ports) = plan else { return }
        switch ports {
        case .counted:
            // The three packets follow each other at once, so that nobody else's connection comes between.
            guard row.contains(number), row.count == 3, row.allSatisfy({ sockets[$0]?.local != nil }) else { return }
            sample(row[0])
            sendOpener(row[1])
            sample(row[2])
            measuredAt = after(PunchLimits.samplePatience)
        case .preserved:
            sendOpener(number)
            guard row.allSatisfy({ sockets[$0]?.local != nil }) else { return }
            tellPorts(.list(row.compactMap { sockets[$0]?.local?.port }))
        case .block, .any:
            // The gate has let it through before the socket was opened.
            sockets[number]?.target = asker
            sendOpener(number)
        }
    }

    private func sendOpener(_ number: Int) {
        guard let socket = sockets[number], let target = socket.target else { return }
        // NATs further away than that are reached in the next attempt.
        let limits = attempt == session.firstAttempt ? PunchLimits.hopLimits : []
        sendProbe(number, to: target, hopLimit: socket.sent < limits.count ? limits[socket.sent] : nil)
        sockets[number]?.sent += 1
        sockets[number]?.next = after(plan.isSearch ? PunchLimits.searchRefresh : PunchLimits.openerPause)
    }

    /// Both answers of the server are there.
    func tellPortsIfMeasured() {
        guard row.count == 3, answer == nil, samples.count(where: { $0.mapped != nil }) == 2 else { return }
        tellCounted()
    }

    private func tellCounted() {
        guard case .open(.counted(let step)) = plan, row.count == 3 else { return }
        let (before, behind) = (mapped(row[0]), mapped(row[2]))
        measuredAt = .max
        let list = PortGuesses.between(before?.port, behind?.port, step: step)
        if !list.isEmpty { tellPorts(.list(list), at: before?.address ?? behind?.address) }
    }

    private func mapped(_ number: Int) -> Endpoint? { samples.first { $0.socket == number }?.mapped }

    private func tellPorts(_ ports: PunchPorts, at address: IPAddress? = nil) {
        guard answer == nil else { return }
        let told = PunchMessage.opened(attempt: attempt, at: address ?? session.ownAddress, ports)
        answer = told
        actions.append(.tell(told))
    }

    func continueOpening() {
        guard let asker else {
            if now >= endsAt { end(.missed) }
            return
        }
        if now >= measuredAt { tellCounted() }
        while toOpen > 0, isAdmitted(asker.address) {
            toOpen -= 1
            openSocket(toward: asker)
        }
        if toOpen == 0 {
            for number in sockets.keys.sorted() where now >= sockets[number]?.next ?? .max {
                guard isAdmitted(asker.address) else { break }
                sendOpener(number)
            }
        }
        if now >= endsAt { end(.missed) }
    }
}

import STUN

/// The side with one address for everybody: it says where it is, and then sends to the ports that the peer may have.
extension Puncher {
    func startAsking() {
        endsAt = after(PunchLimits.answerTime)
        openSocket()
    }

    /// The socket and its address serve for all attempts: to everybody it is the same.
    func tellReady(_ sample: Sample) {
        guard ownEndpoint == nil, let mapped = sample.mapped else { return }
        ownEndpoint = mapped
        row = [sample.socket]
        beginAttempt()
    }

    private func beginAttempt() {
        guard let ownEndpoint else { return }
        noteAttempt()
        // A search is not begun anew soon.
        endsAt = after(plan.isSearch ? PunchLimits.longAnswerTime : PunchLimits.answerTime)
        ask(.ready(attempt: attempt, at: ownEndpoint))
    }

    func search(_ number: UInt32, at address: IPAddress, _ ports: PunchPorts) {
        guard number == attempt, guesses == nil, PunchTarget.isAllowed(address), let planned = guesses(for: ports)
        else {
            return refuse()
        }
        noteAnswer()
        let time = searchTime
        if plan.isSearch {
            guard gate.beginSearch(address, until: after(time), now: now) else {
                actions.append(.tell(.cancel))
                return end(.busy)
            }
            searched = address
        }
        (guesses, target, passAt) = (planned, address, now)
        endsAt = after(time)
    }

    private var searchTime: UInt64 {
        switch plan {
        case .ask(.any): PunchLimits.searchTime
        case .ask(.block): PunchLimits.blockTime
        default: PunchLimits.guessTime
        }
    }

    private func guesses(for ports: PunchPorts) -> PortGuesses? {
        switch (plan, ports) {
        case (.ask(.counted), .list(let list)), (.ask(.preserved), .list(let list)):
            list.isEmpty ? nil : PortGuesses(list)
        case (.ask(.block), .range(let range)):
            range.count > Limits.chunkPorts
                ? nil
                : PortGuesses(range, margin: PunchLimits.blockMargin, seed: cryptography.randomNumber())
        case (.ask(.any), .range(let range)): PortGuesses(range, margin: 0, seed: cryptography.randomNumber())
        default: nil
        }
    }

    func continueAsking() {
        if let target, let socket = row.first {
            while guesses != nil, now >= passAt, isAdmitted(target) {
                if let port = guesses?.take() {
                    sendProbe(socket, to: Endpoint(address: target, port: port))
                }
                if guesses?.isAtEnd == true {
                    guesses?.begin()
                    passAt = after(PunchLimits.passPause)
                }
            }
        }
        guard now >= endsAt else { return }
        guesses = nil
        noteAnswer()
        let made = attempt &- session.firstAttempt &+ 1
        guard ownEndpoint != nil, !plan.isSearch, made < PunchLimits.guessAttempts else {
            actions.append(.tell(.cancel))
            return end(.missed)
        }
        attempt &+= 1
        beginAttempt()
    }
}

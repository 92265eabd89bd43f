extension Hub {
    /// The user is removed or disabled: nothing of his stays, and no token of his is worth anything.
    package func revoke(user name: String, now: HubTime, into actions: inout [Action]) {
        if revocations.count >= SignalingLimits.revocationsRemembered {
            // Who was checked before this moment has to be checked again, whoever it is.
            revocations = [:]
            revokedEveryoneAt = now.monotonicNanoseconds
        }
        revocations[name] = now.monotonicNanoseconds
        alarms.set(revocationSweep, at: now.after(seconds: SignalingLimits.revocationSeconds))
        for session in users[name]?.sessions ?? [] { revoke(session, now, &actions) }
        settle(now, &actions)
    }

    /// The user's time ends then, or has come nearer: no session of his outlasts it. One that has moved away counts
    /// from the next login on.
    package func limit(user name: String, untilWallMilliseconds: Int64, now: HubTime) {
        if limitations.count >= SignalingLimits.revocationsRemembered {
            limitations = [:]
            revokedEveryoneAt = now.monotonicNanoseconds
        }
        limitations[name] = (untilWallMilliseconds, now.monotonicNanoseconds)
        alarms.set(revocationSweep, at: now.after(seconds: SignalingLimits.revocationSeconds))
        let end = now.monotonic(atWallMilliseconds: untilWallMilliseconds)
        for session in users[name]?.sessions ?? [] {
            session.expiresAt = min(session.expiresAt ?? .max, end)
            arm(session)
        }
    }

    /// Ends one session, as an administrator asks. The user may come back. Answers whether there was one.
    package func kick(sessionID: String, now: HubTime, into actions: inout [Action]) -> Bool {
        guard let session = sessions[sessionID] else { return false }
        revoke(session, now, &actions)
        settle(now, &actions)
        return true
    }

    /// Tells every client that the server goes, and when to come back; closes them one after the other within the
    /// window and takes no new one. Called again, it sets a new window.
    /// - Parameter reconnectAfterMilliseconds: each client is told a number from this range, so that they do not all
    ///   come back at once (case SG-16).
    package func drain(
        windowSeconds: UInt64,
        reconnectAfterMilliseconds: ClosedRange<UInt64>,
        now: HubTime,
        into actions: inout [Action]
    ) {
        let isFirst = !isDraining
        isDraining = true
        let window = now.after(seconds: windowSeconds) &- now.monotonicNanoseconds
        for connection in connections.values.sorted(by: { $0.id.rawValue < $1.id.rawValue }) {
            if isFirst {
                var writer = FrameWriter("server-shutdown", reserving: 128)
                writer.member("message", "Server is shutting down")
                writer.member("reconnectAfterMs", Int64(clamping: draw(reconnectAfterMilliseconds)))
                writer.member("timestamp", now.wallMilliseconds)
                let bytes = writer.finish()
                if let session = connection.session {
                    deliver(bytes, to: session, &actions)
                } else {
                    send(bytes, to: connection, &actions)
                }
            }
            connection.drainsAt = now.after(nanoseconds: draw(0...window))
            arm(connection)
        }
        settle(now, &actions)
    }

    /// Forgets revocations and limitations that are older than any check of credentials can be.
    func sweepRevocations(_ now: HubTime) {
        let age = SignalingLimits.revocationSeconds &* 1_000_000_000
        func isOld(_ time: UInt64) -> Bool { now.monotonicNanoseconds &- min(time, now.monotonicNanoseconds) >= age }
        revocations = revocations.filter { !isOld($0.value) }
        limitations = limitations.filter { !isOld($0.value.notedAtNanoseconds) }
        if let everyone = revokedEveryoneAt, isOld(everyone) { revokedEveryoneAt = nil }
        guard !revocations.isEmpty || !limitations.isEmpty || revokedEveryoneAt != nil else { return }
        alarms.set(revocationSweep, at: now.after(seconds: SignalingLimits.revocationSeconds))
    }

    private func revoke(_ session: Session, _ now: HubTime, _ actions: inout [Action]) {
        counters.count(.revoked)
        if let connection = session.connection { close(connection, .revoked, "revoked", now, &actions) }
        end(session, now, &actions)
    }

    /// A number from the range. The bias of the remainder is far below what a clock shows.
    private func draw(_ range: ClosedRange<UInt64>) -> UInt64 {
        let (count, overflow) = (range.upperBound &- range.lowerBound).addingReportingOverflow(1)
        return overflow ? random() : range.lowerBound &+ random() % count
    }
}

extension Hub {
    /// Does everything whose time has come.
    package func expire(now: HubTime, into actions: inout [Action]) {
        let time = now.monotonicNanoseconds
        memory.expire(now)
        while let item = alarms.popDue(time) {
            switch item {
            case let connection as Connection: expire(connection, now, &actions)
            case let session as Session: expire(session, now, &actions)
            case let user as UserRecord:
                if user.sessions.isEmpty { users.removeValue(forKey: user.name) }
            case let address as AddressRecord:
                if address.connections == 0 { addresses.removeValue(forKey: address.key) }
            default: sweepRevocations(now)
            }
        }
        settle(now, &actions)
    }

    private func expire(_ connection: Connection, _ now: HubTime, _ actions: inout [Action]) {
        let time = now.monotonicNanoseconds
        if let drainsAt = connection.drainsAt, drainsAt <= time {
            return close(connection, .shutdown, "shutting down", now, &actions)
        }
        if let deadline = connection.deadline, deadline <= time {
            counters.count(.helloTimeout)
            let refusal = Refusal(.unauthenticated, Self.lateText)
            send(Self.error(refusal, originalType: [], id: connection.helloID), to: connection, &actions)
            return close(connection, .unauthenticated, "not authenticated", now, &actions)
        }
        let heardAt = HubTime(monotonicNanoseconds: connection.lastHeardAt, wallMilliseconds: 0)
        if heardAt.after(seconds: configuration.peerTimeoutSeconds) <= time {
            counters.count(.peerTimeout)
            return close(connection, .policy, "nothing heard", now, &actions)
        }
        arm(connection)
    }

    private func expire(_ session: Session, _ now: HubTime, _ actions: inout [Action]) {
        let time = now.monotonicNanoseconds
        if let expiresAt = session.expiresAt, expiresAt <= time {
            counters.count(.expired)
            guard let connection = session.connection else { return end(session, now, &actions, returning: true) }
            deliver(Self.error(Self.expired, originalType: [], id: []), to: session, &actions)
            return close(connection, .unauthenticated, "credentials expired", now, &actions)
        }
        if session.connection == nil, let resumeEndsAt = session.resumeEndsAt, resumeEndsAt <= time {
            return end(session, now, &actions, returning: true)
        }
        if session.connection != nil, let refreshAt = session.refreshAt, refreshAt <= time {
            refreshCredentials(session, now, &actions)
        }
        arm(session)
    }

    /// By this a client tells a `hello` that was late from one that was wrong.
    static let lateText = "Not authenticated in time"
    private static let expired = Refusal(.unauthenticated, "The credentials have expired")
}

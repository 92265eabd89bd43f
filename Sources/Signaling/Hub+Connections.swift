extension Hub {
    /// Whether a WebSocket from this address would be taken, and if not, why: for an answer in HTTP before the upgrade.
    package func refusal(of address: AddressKey) -> ErrorCode? {
        if isDraining { return .draining }
        let fromAddress = addresses[address]?.connections ?? 0
        return fromAddress >= configuration.connectionsPerAddress || connections.count >= configuration.connectionsMax
            ? .tooManyConnections : nil
    }

    /// A WebSocket is open.
    /// - Parameter grant: what the account store said to the `Authorization` of its upgrade; `nil` where there was
    ///   none.
    package func connect(
        _ id: ConnectionID,
        address: AddressKey,
        grant: Grant?,
        now: HubTime,
        into actions: inout [Action]
    ) {
        guard connections[id] == nil else { return }
        let isCrowded =
            grant == nil && unauthenticatedConnections >= SignalingLimits.unauthenticatedConnectionsMax
        if let code = refusal(of: address) ?? (isCrowded ? .tooManyConnections : nil) {
            turnAway(id, code, &actions)
            return
        }
        let record = addresses[address] ?? AddressRecord(address)
        addresses[address] = record
        alarms.remove(record)
        record.connections += 1
        let connection = Connection(id, record, now: now.monotonicNanoseconds)
        connections[id] = connection
        counters.connectionsOpened &+= 1
        unauthenticatedConnections += 1
        if let grant {
            open(connection, grant, now, &actions)
            if connection.session != nil { connection.unusedGrant = grant }
        } else {
            connection.deadline = now.after(seconds: SignalingLimits.helloSeconds)
            arm(connection)
        }
        settle(now, &actions)
    }

    /// A WebSocket ended without the hub's doing.
    package func closed(_ id: ConnectionID, _ ending: Ending, now: HubTime, into actions: inout [Action]) {
        guard let connection = connections[id] else { return }
        let session = connection.session
        forget(connection, now)
        if let session {
            switch ending {
            case .goodbye: end(session, now, &actions)
            case .lost(let delivered):
                if let delivered { session.replay.noteDelivered(through: delivered) }
                detach(session, now, &actions)
            }
        }
        settle(now, &actions)
    }

    /// What waits for this connection has grown past its limit (cases RE-11, DEF-19). The session stays for a client
    /// that comes back and reads.
    /// - Parameter deliveredThrough: as `Ending.lost` has it.
    package func slowConsumer(
        _ id: ConnectionID,
        deliveredThrough: UInt64? = nil,
        now: HubTime,
        into actions: inout [Action]
    ) {
        guard let connection = connections[id] else { return }
        counters.count(.slowConsumer)
        let session = connection.session
        if let deliveredThrough { session?.replay.noteDelivered(through: deliveredThrough) }
        close(connection, .policy, "slow consumer", now, &actions, endingSession: false)
        if let session { detach(session, now, &actions) }
        settle(now, &actions)
    }

    /// The client's WebSocket answered a probe, or a ping of the gateway's own that carried `sequence(of:)`.
    package func acknowledged(_ id: ConnectionID, through sequence: UInt64, now: HubTime) {
        guard let connection = connections[id] else { return }
        connection.lastHeardAt = now.monotonicNanoseconds
        connection.session?.replay.acknowledge(through: sequence, total: &replayBytes)
    }

    /// The number of the newest message to this client, for the payload of a ping.
    package func sequence(of id: ConnectionID) -> UInt64 { connections[id]?.session?.replay.sentThrough ?? 0 }

    /// Closes a connection and forgets it, and its session with it: what the server ends for cause is not resumed.
    func close(
        _ connection: Connection,
        _ code: CloseCode,
        _ reason: StaticString,
        _ now: HubTime,
        _ actions: inout [Action],
        endingSession: Bool = true
    ) {
        guard connections[connection.id] === connection else { return }
        let session = connection.session
        actions.append(.close(connection.id, code, reason: reason))
        forget(connection, now)
        if endingSession, let session { end(session, now, &actions) }
    }

    /// Takes the connection out of all tables.
    func forget(_ connection: Connection, _ now: HubTime) {
        guard connections.removeValue(forKey: connection.id) != nil else { return }
        alarms.remove(connection)
        if let session = connection.session {
            if session.connection === connection { session.connection = nil }
        } else {
            unauthenticatedConnections -= 1
        }
        connection.held = []
        let address = connection.address
        address.connections -= 1
        if address.connections == 0 { release(address, now) }
    }

    /// When there is something to do about a connection.
    func arm(_ connection: Connection) {
        let silence = configuration.peerTimeoutSeconds
        let heardAt = HubTime(monotonicNanoseconds: connection.lastHeardAt, wallMilliseconds: 0)
        let deadline = min(connection.deadline ?? .max, connection.drainsAt ?? .max)
        alarms.set(connection, at: min(heardAt.after(seconds: silence), deadline))
    }

    /// An address without connections stays until its budgets are whole, unless too many do.
    private func release(_ address: AddressRecord, _ now: HubTime) {
        if address.wholeAt > now.monotonicNanoseconds, addresses.count <= SignalingLimits.recordsRemembered {
            alarms.set(address, at: address.wholeAt)
        } else {
            addresses.removeValue(forKey: address.key)
        }
    }

    private func turnAway(_ id: ConnectionID, _ code: ErrorCode, _ actions: inout [Action]) {
        counters.count(RejectionReason(code))
        let isDrain = code == .draining
        let refusal = Refusal(code, isDrain ? "Server is shutting down" : "Too many connections")
        let bytes = Self.error(refusal, originalType: [], id: [])
        counters.messagesSent &+= 1
        counters.bytesSent &+= UInt64(bytes.count)
        actions.append(.send(id, Frame(bytes: bytes, sequence: 0)))
        actions.append(
            .close(id, isDrain ? .shutdown : .policy, reason: isDrain ? "shutting down" : "too many connections")
        )
    }
}

/// What the caller asks for. Everything may be asked for at any time between `init` and `close`: what cannot be sent
/// yet waits, in bounds.
extension SignalingSession {
    /// Registers a peer id of the user's, `NAME` or `NAME/…`, and keeps it registered in every session from here on,
    /// until `unregister` or a refusal. Again, it replaces the metadata.
    ///
    /// Answered by `.registered` or `.failed`. One that failed for time only is still wanted.
    /// - Parameter metadata: an object, which others see who see the peer.
    package mutating func register(
        _ peerID: String,
        metadata: JSONText = .emptyObject,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) throws(SignalingError) -> SignalingRequestID {
        try check(peerID, "A peer id", SignalingLimits.peerIDBytesMax)
        let limits = welcome?.limits ?? SignalingServerLimits()
        guard metadata.isObject, metadata.bytes.count <= limits.metadataBytes else {
            throw .bad("Metadata is an object of at most \(limits.metadataBytes) bytes", mend: "keep less in it")
        }
        let place = registrations.firstIndex { $0.peerID == peerID }
        guard place != nil || registrations.count < limits.peersPerConnection else {
            throw SignalingError(
                .forbidden,
                "A connection has at most \(limits.peersPerConnection) peer ids",
                mend: "unregister one, or open another connection"
            )
        }
        let id = try enqueue(.register(peerID: peerID), now, &actions) { id in
            Self.registerText(peerID, metadata, id)
        }
        if let place {
            registrations[place].metadata = metadata
        } else {
            registrations.append(Registration(peerID: peerID, metadata: metadata))
        }
        flush(now, &actions)
        return id
    }

    /// Answered by `.unregistered` or `.failed`.
    package mutating func unregister(
        _ peerID: String,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) throws(SignalingError) -> SignalingRequestID {
        try check(peerID, "A peer id", SignalingLimits.peerIDBytesMax)
        let id = try enqueue(.unregister(peerID: peerID), now, &actions) { id in
            Self.text("unregister", id) { $0.member("peerId", peerID) }
        }
        registrations.removeAll { $0.peerID == peerID }
        flush(now, &actions)
        return id
    }

    /// Enters a room with a peer id that is to be registered, and enters it again in every session from here on.
    /// Answered by `.roomJoined` or `.failed`.
    package mutating func joinRoom(
        _ roomID: String,
        as peerID: String,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) throws(SignalingError) -> SignalingRequestID {
        try check(roomID, "A room id", SignalingLimits.roomIDBytesMax)
        guard let place = registrations.firstIndex(where: { $0.peerID == peerID }) else {
            throw SignalingError(.notFound, "Peer \(peerID) is not registered", mend: "register it first")
        }
        let roomsMax = welcome?.limits.roomsPerPeer ?? SignalingServerLimits().roomsPerPeer
        let isNew = !registrations[place].rooms.contains(roomID)
        guard !isNew || registrations[place].rooms.count < roomsMax else {
            throw SignalingError(.forbidden, "A peer is in at most \(roomsMax) rooms", mend: "leave one")
        }
        let id = try enqueue(.join(roomID: roomID, peerID: peerID), now, &actions) { id in
            Self.joinText(roomID, peerID, id)
        }
        if isNew { registrations[place].rooms.append(roomID) }
        flush(now, &actions)
        return id
    }

    /// Answered by `.roomLeft` or `.failed`.
    package mutating func leaveRoom(
        _ roomID: String,
        as peerID: String,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) throws(SignalingError) -> SignalingRequestID {
        try check(roomID, "A room id", SignalingLimits.roomIDBytesMax)
        let id = try enqueue(.leave(roomID: roomID, peerID: peerID), now, &actions) { id in
            Self.text("leave-room", id) {
                $0.member("peerId", peerID)
                $0.member("roomId", roomID)
            }
        }
        forgetRoom(roomID, of: peerID)
        flush(now, &actions)
        return id
    }

    /// Answered by `.found` or `.failed`.
    package mutating func lookup(
        _ peerID: String,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) throws(SignalingError) -> SignalingRequestID {
        try check(peerID, "A peer id", SignalingLimits.peerIDBytesMax)
        let id = try enqueue(.lookup(peerID: peerID), now, &actions) { id in
            Self.text("lookup", id) { $0.member("peerId", peerID) }
        }
        flush(now, &actions)
        return id
    }

    /// Sends a message to a peer. There is no answer when all is well. `.failed` may come as late as the recipient's
    /// session is kept by the server, half a minute. Messages arrive in order, but that one which is refused because
    /// the user's other connections use up the server's budget is repeated, and may be overtaken.
    /// - Parameters:
    ///   - payload: anything but null.
    ///   - roomID: the message goes only if both are in that room.
    package mutating func send(
        _ kind: SignalingMessageKind,
        _ payload: JSONText,
        from: String,
        to: String,
        roomID: String? = nil,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) throws(SignalingError) -> SignalingRequestID {
        try check(to, "A peer id", SignalingLimits.peerIDBytesMax)
        if let roomID { try check(roomID, "A room id", SignalingLimits.roomIDBytesMax) }
        guard payload.value != .null else { throw .bad("A payload is not null", mend: "send an object") }
        let id = try enqueue(.message, now, &actions) { id in
            Self.text(kind.type, id) {
                $0.member("from", from)
                $0.member("to", to)
                if let roomID { $0.member("roomId", roomID) }
                $0.member(kind.member, raw: payload.bytes)
            }
        }
        flush(now, &actions)
        return id
    }

    /// Sends a message to everybody else in a room. There is no answer when all is well.
    package mutating func broadcast(
        _ data: JSONText,
        from: String,
        roomID: String,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) throws(SignalingError) -> SignalingRequestID {
        try check(roomID, "A room id", SignalingLimits.roomIDBytesMax)
        let id = try enqueue(.message, now, &actions) { id in
            Self.text("broadcast", id) {
                $0.member("from", from)
                $0.member("roomId", roomID)
                $0.member("data", raw: data.bytes)
            }
        }
        flush(now, &actions)
        return id
    }

    /// Reports which method has led to a path to a peer, or has not, for the server to remember. There is no answer
    /// when all is well; a server that keeps no memory refuses it as a `bad-type`.
    package mutating func report(
        _ method: PathMethod,
        worked: Bool,
        milliseconds: UInt64,
        from: String,
        to: String,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) throws(SignalingError) -> SignalingRequestID {
        try check(to, "A peer id", SignalingLimits.peerIDBytesMax)
        let id = try enqueue(.message, now, &actions) { id in
            Self.text("report", id) {
                $0.member("from", from)
                $0.member("to", to)
                $0.member("method", method.rawValue)
                $0.member("worked", worked)
                $0.member("milliseconds", Int64(clamping: milliseconds))
            }
        }
        flush(now, &actions)
        return id
    }

    /// Asks for TURN credentials before their time. Answered by `.iceServers` or `.failed`.
    /// - Parameter ttlSeconds: how long they are to hold; the server has its limits. nil: as long as it likes.
    package mutating func requestICEServers(
        ttlSeconds: UInt64? = nil,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) throws(SignalingError) -> SignalingRequestID {
        let id = try enqueue(.iceServers, now, &actions) { id in Self.iceServersText(ttlSeconds, id) }
        flush(now, &actions)
        return id
    }

    /// Asks the server to connect by TCP to a port of the address that this client has for it. Answered by `.probed`
    /// or `.failed`, some seconds later.
    package mutating func probe(
        port: UInt16,
        now: UInt64,
        into actions: inout [SignalingAction]
    ) throws(SignalingError) -> SignalingRequestID {
        let id = try enqueue(.probe, now, &actions) { id in
            Self.text("probe-tcp", id) { $0.member("port", Int64(port)) }
        }
        flush(now, &actions)
        return id
    }

    // MARK: Building

    /// Puts a message of the caller's into the queue.
    private mutating func enqueue(
        _ purpose: OutgoingMessage.Purpose,
        _ now: UInt64,
        _ actions: inout [SignalingAction],
        _ text: (_ id: UInt64) -> String
    ) throws(SignalingError) -> SignalingRequestID {
        if case .closed = phase { throw .closed }
        guard outbox.hasRoom else { throw .queueFull() }
        let bytesMax = welcome?.limits.maxMessageBytes ?? SignalingServerLimits().maxMessageBytes
        let id = nextID()
        let text = text(id)
        guard text.utf8.count <= bytesMax else { throw .tooLarge(bytesMax: bytesMax) }
        outbox.append(
            OutgoingMessage(
                id: id,
                purpose: purpose,
                text: text,
                isInternal: false,
                expiresAt: later(now, seconds: configuration.patienceSeconds)
            )
        )
        return SignalingRequestID(rawValue: id)
    }

    /// Puts a message of the session's own into the queue, which has room for the few that there are.
    mutating func enqueueInternal(
        _ purpose: OutgoingMessage.Purpose,
        expiresAt: UInt64 = .max,
        _ text: (_ id: UInt64) -> String
    ) {
        let id = nextID()
        outbox.append(
            OutgoingMessage(id: id, purpose: purpose, text: text(id), isInternal: true, expiresAt: expiresAt)
        )
    }

    private func check(_ name: String, _ what: String, _ bytesMax: Int) throws(SignalingError) {
        guard !name.isEmpty, name.utf8.count <= bytesMax else {
            throw .bad("\(what) has 1 to \(bytesMax) bytes", mend: "use another")
        }
    }

    static func text(_ type: StaticString, _ id: UInt64, _ members: (inout FrameWriter) -> Void) -> String {
        var writer = FrameWriter(type, reserving: 256)
        writer.member("id", Int64(clamping: id))
        members(&writer)
        return String(decoding: writer.finish(), as: UTF8.self)
    }

    static func registerText(_ peerID: String, _ metadata: JSONText, _ id: UInt64) -> String {
        text("register", id) {
            $0.member("peerId", peerID)
            $0.member("metadata", raw: metadata.bytes)
            $0.member("memory", true)
        }
    }

    static func joinText(_ roomID: String, _ peerID: String, _ id: UInt64) -> String {
        text("join-room", id) {
            $0.member("peerId", peerID)
            $0.member("roomId", roomID)
        }
    }

    static func iceServersText(_ ttlSeconds: UInt64?, _ id: UInt64) -> String {
        text("ice-servers", id) { if let ttlSeconds { $0.member("ttl", Int64(clamping: ttlSeconds)) } }
    }
}

extension SignalingMessageKind {
    var type: StaticString {
        switch self {
        case .offer: "offer"
        case .answer: "answer"
        case .candidate: "ice-candidate"
        case .signal: "signal"
        }
    }

    /// Under which name the payload goes.
    var member: StaticString {
        switch self {
        case .offer: "offer"
        case .answer: "answer"
        case .candidate: "candidate"
        case .signal: "signal"
        }
    }
}

extension SignalingError {
    fileprivate static func bad(_ text: String, mend: String) -> SignalingError {
        SignalingError(.badMessage, text, mend: mend)
    }

    static func tooLarge(bytesMax: Int) -> SignalingError {
        SignalingError(
            .tooLarge,
            "A message has at most \(bytesMax) bytes",
            mend: "send smaller messages, or have signaling.max_message_bytes raised"
        )
    }
}

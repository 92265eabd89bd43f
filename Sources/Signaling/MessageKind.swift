/// What a client may ask for.
package enum MessageKind: Int, CaseIterable, Sendable {
    case hello, register, unregister, joinRoom, leaveRoom, offer, answer, iceCandidate, signal, broadcast, lookup
    case iceServers, time, ping, report, probeTCP

    /// Made once; `allCases` may build its array anew.
    static let all = allCases

    /// As it stands in the member `type`.
    package var name: StaticString {
        switch self {
        case .hello: "hello"
        case .register: "register"
        case .unregister: "unregister"
        case .joinRoom: "join-room"
        case .leaveRoom: "leave-room"
        case .offer: "offer"
        case .answer: "answer"
        case .iceCandidate: "ice-candidate"
        case .signal: "signal"
        case .broadcast: "broadcast"
        case .lookup: "lookup"
        case .iceServers: "ice-servers"
        case .time: "time"
        case .ping: "ping"
        case .report: "report"
        case .probeTCP: "probe-tcp"
        }
    }
}

/// The members that the server reads. Any other is checked and left alone.
enum Field: Int, CaseIterable {
    case type, id, peerId, metadata, roomId, to, from, offer, answer, candidate, signal, data
    case username, password, token, resume, received, ttl, t0, port
    case memory, method, worked, milliseconds

    /// Made once; `allCases` may build its array anew.
    static let all = allCases

    var name: StaticString {
        switch self {
        case .type: "type"
        case .id: "id"
        case .peerId: "peerId"
        case .metadata: "metadata"
        case .roomId: "roomId"
        case .to: "to"
        case .from: "from"
        case .offer: "offer"
        case .answer: "answer"
        case .candidate: "candidate"
        case .signal: "signal"
        case .data: "data"
        case .username: "username"
        case .password: "password"
        case .token: "token"
        case .resume: "resume"
        case .received: "received"
        case .ttl: "ttl"
        case .t0: "t0"
        case .memory: "memory"
        case .method: "method"
        case .worked: "worked"
        case .milliseconds: "milliseconds"
        case .port: "port"
        }
    }
}

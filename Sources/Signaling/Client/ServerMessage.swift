/// A message of the server's: a checked JSON object with the members that a client reads.
///
/// Members that are not known are passed over; one that is null is one that is not there.
struct ServerMessage {
    let type: String
    private let members: [Key: JSONText]

    /// The members that the client reads, by their names.
    enum Key: String, CaseIterable {
        case type, id, code, error, originalType, retryAfterMs, reconnectAfterMs
        case sessionId, resumeToken, user, resumed, missed, received, peers, iceServers, ttl, serverTime, limits
        case peerId, roomId, metadata, online, from, to, payload, data, timestamp
        case outcome, address
    }

    private static let keys = Dictionary(uniqueKeysWithValues: Key.allCases.map { ($0.rawValue, $0) })

    /// nil for what is not a JSON object with a type, and for what is larger than a server's message can be.
    init?(_ text: [UInt8]) {
        guard text.count <= SignalingClientLimits.messageBytesMax else { return nil }
        let found = text.withUnsafeBufferPointer { text -> [Key: JSONText]? in
            guard let base = text.baseAddress else { return nil }
            var found: [Key: JSONText] = [:]
            var scanner = JSONScanner(base: base, count: text.count, limits: .fromServers)
            do throws(JSONFault) {
                try scanner.document { scanner, key, span in
                    guard span.kind != .null, key.end &- key.start <= 96 else { return }
                    let name = String(decoding: scanner.decoded(key.start, key.end), as: UTF8.self)
                    if let key = Self.keys[name] {
                        found[key] = JSONText(unchecked: Array(text[span.start..<span.end]))
                    }
                }
            } catch { return nil }
            return found
        }
        guard let found, let type = found[.type]?.value.string else { return nil }
        self.type = type
        members = found
    }

    subscript(key: Key) -> JSONText? { members[key] }

    func string(_ key: Key) -> String? { members[key]?.value.string }

    func wholeNumber(_ key: Key) -> UInt64? {
        // A number of this client's own comes back as it was written; a double would not hold all of them.
        members[key].flatMap { UInt64($0.description) ?? $0.value.wholeNumber }
    }

    func bool(_ key: Key) -> Bool { members[key]?.value.bool ?? false }

    /// Milliseconds since the epoch; 0 where there are none.
    var timestamp: Int64 { members[.timestamp]?.value.number.flatMap { Int64(exactly: $0.rounded()) } ?? 0 }

    /// A peer id as it may be: not empty, and no longer than one is.
    func peerID(_ key: Key) -> String? { Self.name(string(key), SignalingLimits.peerIDBytesMax) }

    var roomID: String? { Self.name(string(.roomId), SignalingLimits.roomIDBytesMax) }

    var metadata: JSONText {
        guard let metadata = members[.metadata], metadata.isObject else { return .emptyObject }
        return metadata
    }

    /// Who is in a room; nil where that is not said as it should be.
    var peers: [SignalingPeer]? {
        guard let list = members[.peers]?.value.array, list.count <= SignalingLimits.membersPerRoom else { return nil }
        var peers: [SignalingPeer] = []
        for entry in list {
            guard let id = Self.name(entry["peerId"]?.string, SignalingLimits.peerIDBytesMax) else { return nil }
            let metadata = entry["metadata"].flatMap { $0.object == nil ? nil : JSONText($0) }
            peers.append(SignalingPeer(peerID: id, metadata: metadata ?? .emptyObject))
        }
        return peers
    }

    /// The client's own peers and their rooms, as a session that goes on has them.
    var registrations: [String: Set<String>] {
        var registrations: [String: Set<String>] = [:]
        for entry in members[.peers]?.value.array ?? [] {
            guard let id = entry["peerId"]?.string else { continue }
            registrations[id] = Set((entry["rooms"]?.array ?? []).compactMap(\.string))
        }
        return registrations
    }

    /// As many as a client can use. One without an address is passed over.
    var iceServers: [SignalingICEServer]? {
        guard let list = members[.iceServers]?.value.array else { return nil }
        return list.prefix(SignalingClientLimits.iceServersMax).compactMap { entry in
            // One address may stand alone (W3C WebRTC section 4.2.4).
            let urls = entry["urls"]?.array?.compactMap(\.string) ?? [entry["urls"]?.string].compactMap(\.self)
            guard !urls.isEmpty else { return nil }
            return SignalingICEServer(
                urls: Array(urls.prefix(SignalingClientLimits.iceURLsMax)),
                username: entry["username"]?.string,
                credential: entry["credential"]?.string
            )
        }
    }

    var limits: SignalingServerLimits {
        var limits = SignalingServerLimits()
        guard let said = members[.limits]?.value else { return limits }
        func read(_ name: String, _ range: ClosedRange<UInt64>, _ set: (UInt64) -> Void) {
            if let number = said[name]?.wholeNumber { set(min(max(number, range.lowerBound), range.upperBound)) }
        }
        read("messagesPerSecond", 1...1_000_000) { limits.messagesPerSecond = $0 }
        read("burst", 1...1_000_000) { limits.burst = $0 }
        read("maxMessageBytes", 256...1_048_576) { limits.maxMessageBytes = Int($0) }
        read("metadataBytes", 2...65_536) { limits.metadataBytes = Int($0) }
        read("peersPerConnection", 1...1_024) { limits.peersPerConnection = Int($0) }
        read("roomsPerPeer", 1...1_024) { limits.roomsPerPeer = Int($0) }
        read("peerTimeoutMs", 1_000...86_400_000) { limits.peerTimeoutMilliseconds = $0 }
        read("resumeWindowMs", 0...86_400_000) { limits.resumeWindowMilliseconds = $0 }
        return limits
    }

    /// What an `error` says.
    var failure: SignalingError {
        SignalingError(
            code: string(.code) ?? "",
            text: String(
                (string(.error) ?? "The server refused without a reason").prefix(
                    SignalingClientLimits.errorCharactersMax
                )
            ),
            retryAfterMilliseconds: wholeNumber(.retryAfterMs).map {
                min($0, SignalingClientLimits.pauseMillisecondsMax)
            }
        )
    }

    private static func name(_ text: String?, _ bytesMax: Int) -> String? {
        text.flatMap { !$0.isEmpty && $0.utf8.count <= bytesMax ? $0 : nil }
    }
}

import STUN

/// Why a request did not prove who sent it. A request without any proof, which every client begins with, is none of
/// these.
package enum AuthenticationFailure: Int, CaseIterable, Sendable {
    /// The user or the shared secret is not known, the password is wrong, or the realm is another server's.
    case unknownUser, wrongPassword, wrongRealm
    /// Proved, by a credential whose time is over, or whose user is disabled or asks for more time than is given.
    case expired, notAllowed
    /// MD5 or HMAC-SHA1 where `auth.require_sha256` forbids them.
    case weakAlgorithm
    /// Proved, under a nonce that has grown old. Clients that stay do this once in a while, and try again.
    case staleNonce
    /// A nonce that was not made here, or not for this client: a forged source, or a client whose address has changed.
    case foreignNonce
    /// Without a username, a realm or a nonce, or with password algorithms that somebody changed on the way.
    case malformed

    /// As it stands in metrics.
    package var label: String {
        switch self {
        case .unknownUser: "unknown_user"
        case .wrongPassword: "wrong_password"
        case .wrongRealm: "wrong_realm"
        case .expired: "expired"
        case .notAllowed: "not_allowed"
        case .weakAlgorithm: "weak_algorithm"
        case .staleNonce: "stale_nonce"
        case .foreignNonce: "foreign_nonce"
        case .malformed: "malformed"
        }
    }
}

/// What a worker counts of requests, allocations and answers: outside the packets' way, and without allocating.
package struct ControlCounters: Sendable {
    private var requests = InlineArray<28, UInt64>(repeating: 0)
    private var failures = InlineArray<9, UInt64>(repeating: 0)
    private var errors = InlineArray<18, UInt64>(repeating: 0)
    private var durations = InlineArray<12, UInt64>(repeating: 0)
    /// Allocations that have ended, and how long they were there in all.
    package private(set) var allocationsEnded: UInt64 = 0
    package private(set) var allocationSeconds = 0.0

    package init() {}

    /// The methods that requests may have, with their names in metrics.
    package static let methods: [(method: Method, label: String)] = [
        (.binding, "binding"), (.allocate, "allocate"), (.refresh, "refresh"),
        (.createPermission, "create_permission"), (.channelBind, "channel_bind"), (.connect, "connect"),
        (.connectionBind, "connection_bind"),
    ]

    /// Each code an answer may have, and 0 for one that this list has not.
    package static let errorCodes: [UInt16] = [
        300, 400, 401, 403, 405, 420, 437, 438, 440, 441, 442, 443, 446, 447, 486, 500, 508, 0,
    ]

    /// What `durations` counts up to, in seconds; the last counter is for all that is longer.
    package static let durationBounds: [Double] = [
        1, 10, 60, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400,
    ]

    /// Requests that were answered, or left without an answer for good.
    package subscript(method: Method, transport: ClientTransport) -> UInt64 {
        guard let place = Self.place(of: method) else { return 0 }
        return requests[place &* 4 &+ Int(transport.rawValue)]
    }

    package subscript(failure: AuthenticationFailure) -> UInt64 { failures[failure.rawValue] }

    package subscript(errorCode code: UInt16) -> UInt64 { errors[Self.place(of: code)] }

    /// Allocations that lasted so long: one number for each of `durationBounds`, and one for longer ones.
    package var allocationDurations: [UInt64] { durations.indices.map { durations[$0] } }

    mutating func count(_ method: Method, _ transport: ClientTransport) {
        guard let place = Self.place(of: method) else { return }
        requests[place &* 4 &+ Int(transport.rawValue)] &+= 1
    }

    mutating func count(_ failure: AuthenticationFailure) { failures[failure.rawValue] &+= 1 }

    /// Counts an answer if it is an error. ERROR-CODE is the first attribute of each that is made here.
    package mutating func count(answer bytes: UnsafeRawBufferPointer) {
        // The class's bits 1 and 0 are bits 8 and 4 of the type (RFC 8489 section 5); ERROR-CODE has type 0x0009, and
        // class and number in its last two bytes (section 14.8).
        guard bytes.count >= 28, bytes[0] & 1 == 1, bytes[1] & 0x10 == 0x10, bytes[20] == 0, bytes[21] == 9 else {
            return
        }
        errors[Self.place(of: UInt16(bytes[26] & 7) &* 100 &+ UInt16(bytes[27]))] &+= 1
    }

    mutating func countAllocation(nanoseconds: UInt64) {
        let seconds = Double(nanoseconds) / 1e9
        var place = 0
        while place < Self.durationBounds.count, seconds > Self.durationBounds[place] { place &+= 1 }
        durations[place] &+= 1
        allocationsEnded &+= 1
        allocationSeconds += seconds
    }

    /// Adds another worker's.
    package mutating func add(_ other: ControlCounters) {
        for index in requests.indices { requests[index] &+= other.requests[index] }
        for index in failures.indices { failures[index] &+= other.failures[index] }
        for index in errors.indices { errors[index] &+= other.errors[index] }
        for index in durations.indices { durations[index] &+= other.durations[index] }
        allocationsEnded &+= other.allocationsEnded
        allocationSeconds += other.allocationSeconds
    }

    private static func place(of method: Method) -> Int? {
        switch method {
        case .binding: 0
        case .allocate: 1
        case .refresh: 2
        case .createPermission: 3
        case .channelBind: 4
        case .connect: 5
        case .connectionBind: 6
        default: nil
        }
    }

    private static func place(of code: UInt16) -> Int {
        errorCodes.firstIndex(of: code) ?? errorCodes.count - 1
    }
}

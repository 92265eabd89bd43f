import STUN

/// The keys a user authenticates with: MD5 and SHA-256 of `user:realm:password` (RFC 8489 sections 9.2.2 and 18.5.1).
/// Held inline, so that copying one counts no reference.
package struct CredentialKeys: Sendable {
    package var md5: InlineArray<16, UInt8>
    package var sha256: InlineArray<32, UInt8>

    /// - Returns: nil when a key has the wrong length, as from a damaged database row.
    package init?(md5: [UInt8], sha256: [UInt8]) {
        guard md5.count == 16, sha256.count == 32 else { return nil }
        self.md5 = InlineArray { md5[$0] }
        self.sha256 = InlineArray { sha256[$0] }
    }
}

/// What the account store knows of a user.
package struct UserRecord: Sendable {
    package var name: String
    package var keys: CredentialKeys
    /// Unix seconds, or nil for no end.
    package var expiresAtSeconds: UInt64?
    /// nil: the server's limit.
    package var maximumAllocations: Int?
    package var isEnabled: Bool
    /// Of each allocation, in place of the server's limit; 0 for none.
    package var bitsPerSecond: UInt64?
    /// When a user who has used up the month's bytes may allocate again, in Unix seconds; nil while there are some
    /// left. A time and not a flag, so that what a worker has cached ends by itself with the month.
    package var overQuotaUntilSeconds: UInt64?

    package init(
        name: String,
        keys: CredentialKeys,
        expiresAtSeconds: UInt64?,
        maximumAllocations: Int?,
        isEnabled: Bool,
        bitsPerSecond: UInt64? = nil,
        overQuotaUntilSeconds: UInt64? = nil
    ) {
        self.name = name
        self.keys = keys
        self.expiresAtSeconds = expiresAtSeconds
        self.maximumAllocations = maximumAllocations
        self.isEnabled = isEnabled
        self.bitsPerSecond = bitsPerSecond
        self.overQuotaUntilSeconds = overQuotaUntilSeconds
    }

    func isOverQuota(atSeconds now: UInt64) -> Bool { overQuotaUntilSeconds.map { now < $0 } ?? false }
}

/// What of a user's record counts for allocations that he has already.
package struct UserTerms: Sendable {
    package var name: String
    /// As in `UserRecord`.
    package var bitsPerSecond: UInt64?
    package var expiresAtSeconds: UInt64?

    package init(name: String, bitsPerSecond: UInt64?, expiresAtSeconds: UInt64?) {
        self.name = name
        self.bitsPerSecond = bitsPerSecond
        self.expiresAtSeconds = expiresAtSeconds
    }
}

/// A question to the account store.
package enum CredentialQuery: Hashable, Sendable {
    case name(String)
    /// SHA-256 of `user:realm` (RFC 8489 section 14.4).
    case userhash([UInt8])

    /// By bytes. Strings compare by canonical equivalence, so a composed and a decomposed name would share a place in
    /// the cache, and whoever asked for one could have the other answered as absent.
    package static func == (left: CredentialQuery, right: CredentialQuery) -> Bool {
        switch (left, right) {
        case (.name(let left), .name(let right)): left.utf8.elementsEqual(right.utf8)
        case (.userhash(let left), .userhash(let right)): left == right
        default: false
        }
    }

    package func hash(into hasher: inout Hasher) {
        switch self {
        case .name(let name):
            for byte in name.utf8 { hasher.combine(byte) }
        case .userhash(let hash):
            hasher.combine(1)
            hasher.combine(hash)
        }
    }
}

/// A username of the form `<expiry>:<name>`, whose password anyone with a shared secret can compute.
package struct TimeLimitedName: Sendable {
    package let expiresAtSeconds: UInt64
    package let name: String

    /// - Returns: nil unless digits alone stand before the first colon, and something behind it.
    package init?(_ username: String) {
        guard let colon = username.utf8.firstIndex(of: UInt8(ascii: ":")) else { return nil }
        let digits = username.utf8[..<colon]
        guard !digits.isEmpty, digits.count <= 12, digits.allSatisfy({ (0x30...0x39).contains($0) }),
            let seconds = UInt64(username[..<colon])
        else { return nil }
        expiresAtSeconds = seconds
        name = String(username[username.utf8.index(after: colon)...])
        guard !name.isEmpty else { return nil }
    }
}

/// What a worker remembers of the account store, so that a request seldom waits for it. Absent users are remembered
/// too, or a flood of wrong names would be a flood of look-ups; but apart and far fewer, or it would be a flood of
/// memory.
struct CredentialCache {
    enum Answer {
        case known(UserRecord)
        case absent
        case unknownYet
    }

    private var known = Generations<UserRecord>(capacity: Limits.credentialsCached)
    private var absent = Generations<Void>(capacity: Limits.absentNamesCached)

    var knownCount: Int { known.count }

    mutating func look(up query: CredentialQuery) -> Answer {
        if let record = known.find(query) { return .known(record) }
        return absent.find(query) == nil ? .unknownYet : .absent
    }

    mutating func store(_ record: UserRecord?, for query: CredentialQuery) {
        known.remove(query)
        absent.remove(query)
        if let record { known.insert(record, for: query) } else { absent.insert((), for: query) }
    }

    /// Forgets one user, and every userhash that was nobody's, since a hash does not tell whose it will be.
    mutating func forget(_ name: String) {
        known.remove(where: { key, record in key == .name(name) || record.name == name })
        absent.remove(where: { key, _ in
            if case .userhash = key { return true }
            return key == .name(name)
        })
    }

    mutating func forgetAll() {
        known.remove(where: { _, _ in true })
        absent.remove(where: { _, _ in true })
    }
}

/// A bounded dictionary in two generations: when the younger is full it becomes the older, and what nobody asked for
/// meanwhile is forgotten.
private struct Generations<Value> {
    private let capacity: Int
    private var younger: [CredentialQuery: Value] = [:]
    private var older: [CredentialQuery: Value] = [:]

    init(capacity: Int) { self.capacity = capacity }

    var count: Int { younger.count + older.count }

    mutating func find(_ query: CredentialQuery) -> Value? {
        if let found = younger[query] { return found }
        guard let found = older[query] else { return nil }
        insert(found, for: query)
        return found
    }

    mutating func insert(_ value: Value, for query: CredentialQuery) {
        if younger.count >= capacity {
            older = younger
            younger = [:]
        }
        younger[query] = value
    }

    mutating func remove(_ query: CredentialQuery) {
        younger[query] = nil
        older[query] = nil
    }

    mutating func remove(where isGone: (CredentialQuery, Value) -> Bool) {
        younger = younger.filter { !isGone($0.key, $0.value) }
        older = older.filter { !isGone($0.key, $0.value) }
    }
}

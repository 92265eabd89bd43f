/// The keys derived from one password. Whoever holds them can authenticate, so they are never shown or logged.
///
/// Derivation is the caller's, as this module knows no cryptography: `md5Key` is MD5(user ":" realm ":" password),
/// `sha256Key` the same over SHA-256 (RFC 8489 section 18.5.1), `userhash` SHA-256(user ":" realm) (section 14.4).
package struct DerivedKeys: Hashable, Sendable {
    /// 16 bytes.
    package let md5Key: [UInt8]
    /// 32 bytes.
    package let sha256Key: [UInt8]
    /// 32 bytes.
    package let userhash: [UInt8]

    package init(md5Key: [UInt8], sha256Key: [UInt8], userhash: [UInt8]) {
        self.md5Key = md5Key
        self.sha256Key = sha256Key
        self.userhash = userhash
    }

    var isWellFormed: Bool { md5Key.count == 16 && sha256Key.count == 32 && userhash.count == 32 }
}

/// A user as an operator sees it: everything but the keys.
package struct User: Hashable, Sendable {
    package enum State: String, Sendable {
        case active
        case disabled
        case expired
        /// The stored keys do not have the length of keys, so the user cannot authenticate until a new password is set.
        case damaged
    }

    package let name: String
    package let realm: String
    package let isEnabled: Bool
    /// Seconds since 1970, as all times here.
    package let createdAtSeconds: Int64
    package let expiresAtSeconds: Int64?
    /// `nil` where the server's own limit holds.
    package let maxAllocations: Int?
    /// Of each allocation, in bits per second, 0 for no limit; `nil` where the server's own limit holds.
    package let maxBitsPerSecond: Int64?
    /// Bytes relayed in a calendar month of UTC; `nil` for no limit.
    package let monthlyBytes: Int64?
    package let hasWellFormedKeys: Bool

    package func state(atSeconds now: Int64) -> State {
        if !hasWellFormedKeys { return .damaged }
        if !isEnabled { return .disabled }
        if let expiresAtSeconds, expiresAtSeconds <= now { return .expired }
        return .active
    }
}

/// What a server needs to authenticate one user.
package struct CredentialRecord: Hashable, Sendable {
    package let name: String
    /// The realm that the keys were derived with; a server that offers another one cannot authenticate this user.
    package let realm: String
    package let keys: DerivedKeys
    package let isEnabled: Bool
    package let expiresAtSeconds: Int64?
    package let maxAllocations: Int?
    /// As in `User`.
    package let maxBitsPerSecond: Int64?
    package let monthlyBytes: Int64?

    package init(
        name: String,
        realm: String,
        keys: DerivedKeys,
        isEnabled: Bool,
        expiresAtSeconds: Int64?,
        maxAllocations: Int?,
        maxBitsPerSecond: Int64? = nil,
        monthlyBytes: Int64? = nil
    ) {
        self.name = name
        self.realm = realm
        self.keys = keys
        self.isEnabled = isEnabled
        self.expiresAtSeconds = expiresAtSeconds
        self.maxAllocations = maxAllocations
        self.maxBitsPerSecond = maxBitsPerSecond
        self.monthlyBytes = monthlyBytes
    }

    package func isUsable(atSeconds now: Int64) -> Bool {
        guard isEnabled else { return false }
        guard let expiresAtSeconds else { return true }
        return now < expiresAtSeconds
    }
}

/// A secret shared with whoever mints time-limited credentials. The value itself is kept, as HMAC needs it.
package struct SharedSecret: Hashable, Sendable {
    package let name: String
    package let value: [UInt8]
    package let createdAtSeconds: Int64

    package init(name: String, value: [UInt8], createdAtSeconds: Int64) {
        self.name = name
        self.value = value
        self.createdAtSeconds = createdAtSeconds
    }
}

import STUN

/// One credential with one server: what its challenges said, and the key that follows (RFC 8489 section 9.2).
struct LongTermSession: Sendable {
    enum Challenge: Equatable {
        /// There is something new to try.
        case answered
        /// The same was tried before.
        case sameAsBefore
        case bidDown
        case noCommonAlgorithm
        case malformed
    }

    let credential: TURNCredential
    private(set) var key: AnswerKey?
    private var realm: [UInt8] = []
    private var nonce: [UInt8] = []
    /// PASSWORD-ALGORITHMS as the server sent it, to be sent back unchanged.
    private var algorithms: [UInt8] = []
    private var algorithm = PasswordAlgorithm.md5
    private var usesUserhash = false
    private var userhash: [UInt8] = []
    /// A nonce of this server's announced features. One that does not any more is not its own.
    private var sawFeatures = false

    private enum PasswordAlgorithm: UInt16 {
        case md5 = 1
        case sha256 = 2
    }

    init(_ credential: TURNCredential) { self.credential = credential }

    /// The same knowledge of the server with another credential.
    func with(_ credential: TURNCredential, _ cryptography: any Cryptography) -> LongTermSession {
        var session = LongTermSession(credential)
        guard key != nil else { return session }
        session.realm = realm
        session.nonce = nonce
        session.algorithms = algorithms
        session.algorithm = algorithm
        session.usesUserhash =
            SecurityFeatures(nonce: nonce).offersUsernameAnonymity && !Self.isTimeLimited(credential.username)
        session.sawFeatures = sawFeatures
        session.derive(cryptography)
        return session
    }

    /// Takes a 401 or 438 (RFC 8489 section 9.2.5).
    /// - Parameter wasSigned: the refused request had proved the credential.
    mutating func learn(
        _ message: MessageView,
        isStale: Bool,
        wasSigned: Bool,
        _ cryptography: any Cryptography
    ) -> Challenge {
        guard let nonce = message.first(.nonce).map(Array.init), nonce.count <= Limits.nonceBytes, !nonce.isEmpty
        else { return .malformed }
        let realm = message.first(.realm).map(Array.init) ?? (isStale ? self.realm : [])
        guard !realm.isEmpty, realm.count <= Limits.realmBytes else { return .malformed }
        let offered = message.first(.passwordAlgorithms).map(Array.init) ?? []
        guard offered.count <= Limits.passwordAlgorithmsBytes else { return .malformed }
        let features = SecurityFeatures(nonce: nonce)
        if features.offersPasswordAlgorithms, offered.isEmpty { return .bidDown }
        if sawFeatures, !features.offersPasswordAlgorithms { return .bidDown }
        var chosen = PasswordAlgorithm.md5
        if !offered.isEmpty {
            guard let first = Self.firstKnown(offered) else { return .noCommonAlgorithm }
            chosen = first
        }
        let hidesName = features.offersUsernameAnonymity && !Self.isTimeLimited(credential.username)
        let isSame =
            realm == self.realm && chosen == algorithm && offered == algorithms && hidesName == usesUserhash
        // A 401 for a request that was signed says that the proof was not good; the same again would not be better.
        if wasSigned, isSame, !isStale { return .sameAsBefore }
        self.nonce = nonce
        sawFeatures = sawFeatures || features.offersPasswordAlgorithms
        if !isSame || key == nil {
            self.realm = realm
            algorithms = offered
            algorithm = chosen
            usesUserhash = hidesName
            derive(cryptography)
        }
        return .answered
    }

    /// Signs a request; one before the first challenge stays as it is (RFC 8489 section 9.2.3.1).
    func sign(_ builder: inout MessageBuilder, _ cryptography: any Cryptography) {
        guard let key else { return }
        if usesUserhash {
            builder.append(.userhash, userhash)
        } else {
            builder.append(.username, Array(credential.username.utf8))
        }
        builder.append(.realm, realm)
        builder.append(.nonce, nonce)
        if !algorithms.isEmpty {
            builder.append(.passwordAlgorithms, algorithms)
            builder.append(.passwordAlgorithm, UInt32(algorithm.rawValue) << 16)
        }
        key.key.withUnsafeBytes { builder.append(key.integrity, key: $0, with: cryptography) }
    }

    /// Whether the name is an expiry and something behind it, as of credentials made with a shared secret. No server
    /// has a list of such names, so none could find one by its hash: USERNAME goes out where RFC 8489 section 9.2.5
    /// would have USERHASH.
    private static func isTimeLimited(_ username: String) -> Bool {
        let expiry = username.utf8.prefix { $0 != UInt8(ascii: ":") }
        return expiry.count < username.utf8.count && !expiry.isEmpty
            && expiry.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }

    /// RFC 8489 sections 9.2.2 and 18.5.1: a hash of `user:realm:password`.
    private mutating func derive(_ cryptography: any Cryptography) {
        let colon = [UInt8(ascii: ":")]
        let name = Array(credential.username.utf8)
        userhash = Self.digest(.sha256, name + colon + realm, cryptography)
        let text = name + colon + realm + colon + Array(credential.password.utf8)
        let material = Self.digest(algorithm == .sha256 ? .sha256 : .md5, text, cryptography)
        // Section 9.2.5: where algorithms are offered, MESSAGE-INTEGRITY-SHA256 and nothing else.
        key = AnswerKey(algorithms.isEmpty ? .sha1 : .sha256, material)
    }

    private static func digest(_ hash: HashAlgorithm, _ text: [UInt8], _ cryptography: any Cryptography) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: hash.length)
        text.withUnsafeBytes { text in
            output.withUnsafeMutableBytes { cryptography.digest(hash, message: text, output: $0) }
        }
        return output
    }

    /// The first algorithm of the list that is known here (RFC 8489 section 14.11): a number and the length of its
    /// parameters, two bytes each, and the parameters padded to four.
    private static func firstKnown(_ list: [UInt8]) -> PasswordAlgorithm? {
        list.withUnsafeBytes { list in
            var offset = 0
            while offset + 4 <= list.count {
                let parameters = Int(list.uint16(at: offset + 2))
                if parameters == 0, let known = PasswordAlgorithm(rawValue: list.uint16(at: offset)) { return known }
                offset += 4 + (parameters + 3) & ~3
            }
            return nil
        }
    }
}

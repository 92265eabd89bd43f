import STUN

/// The long-term credential mechanism (RFC 8489 section 9.2.4, with the order of RFC 8656 section 5).
extension Engine {
    mutating func authenticated(_ request: Request, _ reply: UnsafeMutableRawBufferPointer) -> Verdict {
        switch authenticate(request, reply) {
        case .answered(let verdict):
            return verdict
        case .proved(let authentication):
            let unknown = unknownAttributes(of: request.message)
            if !unknown.isEmpty { return fail(request, .unknownAttribute, authentication, reply, unknown: unknown) }
            if awaitsArrival(request, authentication) { return .arriving }
            switch request.method {
            case .allocate: return allocate(request, authentication, reply)
            case .refresh: return refresh(request, authentication, reply)
            case .createPermission: return createPermission(request, authentication, reply)
            case .connect: return connect(request, authentication, reply)
            case .connectionBind: return connectionBind(request, authentication, reply)
            default: return channelBind(request, authentication, reply)
            }
        }
    }

    private enum Outcome {
        case answered(Verdict)
        case proved(Authentication)
    }

    private mutating func authenticate(_ request: Request, _ reply: UnsafeMutableRawBufferPointer) -> Outcome {
        let message = request.message
        guard message.hasIntegrity else { return .answered(challenge(request, .unauthenticated, reply)) }
        let username = message.first(.username)
        let userhash = message.first(.userhash)
        guard username != nil || userhash != nil, let realm = message.first(.realm), let nonce = message.first(.nonce),
            (username?.count ?? 1) <= Limits.usernameBytesMaximum, (userhash?.count ?? 32) == 32,
            realm.count <= Limits.realmBytesMaximum, nonce.count <= Limits.nonceBytesMaximum,
            (message.first(.software)?.count ?? 0) <= Limits.softwareBytesMaximum
        else {
            counters.control.count(.malformed)
            return .answered(refuse(request, .badRequest, reply))
        }

        // A nonce that we did not make for this client is told so before any user is looked up: that costs an attacker
        // who forges his address an HMAC of ours and nothing else.
        let nonceVerdict = Nonce.check(
            nonce,
            from: request.tuple.client,
            wallSeconds: request.moment.wallSeconds,
            lifetimeSeconds: configuration.nonceLifetimeSeconds,
            keys: configuration.nonceKeys,
            with: cryptography
        )
        // A ConnectionBind may come with the nonce of its control connection, which the worker that has it can check;
        // the client's address has proved itself.
        let isBorrowed =
            nonceVerdict == .foreign && request.method == .connectionBind && request.tuple.transport.isStream
        if nonceVerdict == .foreign, !isBorrowed {
            counters.control.count(.foreignNonce)
            return .answered(challenge(request, .staleNonce, reply))
        }

        // A good nonce with a wrong integrity costs a look-up and a MAC or more, each time. A source that keeps failing
        // is heard no more in this second (case RE-14); only a client who has proved himself before, from the same
        // port, is.
        guard
            failures.hasRoom(request.tuple.client.address, limit: failuresPerSecond, at: request.moment)
                || allocation(of: request.tuple) != noIndex
        else { return .answered(.drop(.failureBudget)) }

        let algorithm: HashAlgorithm
        switch chosenAlgorithm(message) {
        case .offered(let chosen): algorithm = chosen
        case .refused:
            counters.control.count(.malformed)
            return .answered(refuse(request, .badRequest, reply))
        case .tooWeak:
            return .answered(unauthenticated(request, .weakAlgorithm, reply))
        }
        if configuration.requiresSHA256, message.messageIntegritySHA256Offset == 0 {
            return .answered(unauthenticated(request, .weakAlgorithm, reply))
        }

        let credential: Credential
        switch self.credential(username, userhash, request.moment) {
        case .ask(let query): return .answered(.needsCredentials(query))
        case .found(let found): credential = found
        }
        let integrity: Integrity = message.messageIntegritySHA256Offset != 0 ? .sha256 : .sha1
        var realmText = configuration.realm
        let isOurRealm = realmText.withUTF8 { realm.holdsSameBytes(as: UnsafeRawBufferPointer($0)) }
        // Whatever else is wrong, the MAC is computed.
        let verified = verify(message, integrity, algorithm, credential)
        guard let keyLength = verified, isOurRealm, credential.isGood else {
            let failure = failure(of: credential, isProved: verified != nil, isOurRealm: isOurRealm, request.moment)
            return .answered(unauthenticated(request, failure, reply))
        }
        if nonceVerdict == .stale {
            counters.control.count(.staleNonce)
            return .answered(challenge(request, .staleNonce, reply))
        }
        return .proved(
            Authentication(
                identity: credential.identity,
                integrity: integrity,
                keyLength: keyLength,
                hasBorrowedNonce: isBorrowed,
                maximumAllocations: credential.maximumAllocations,
                bitsPerSecond: credential.bitsPerSecond,
                isOverQuota: credential.isOverQuota,
                credentialExpirySeconds: credential.expiresAtSeconds
            )
        )
    }

    private mutating func unauthenticated(
        _ request: Request,
        _ failure: AuthenticationFailure,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        counters.authenticationFailures &+= 1
        counters.control.count(failure)
        _ = failures.take(request.tuple.client.address, limit: failuresPerSecond, at: request.moment)
        return challenge(request, .unauthenticated, reply)
    }

    /// For the operator's eyes alone: the client is told nothing of it.
    private func failure(
        of credential: Credential,
        isProved: Bool,
        isOurRealm: Bool,
        _ moment: Moment
    ) -> AuthenticationFailure {
        if !isOurRealm { return .wrongRealm }
        if credential.keys == nil, credential.timeLimitedUsername == nil { return .unknownUser }
        guard isProved else { return .wrongPassword }
        return credential.expiresAtSeconds.map { $0 <= moment.wallSeconds } ?? false ? .expired : .notAllowed
    }

    /// Failed proofs of one source, by UDP and TCP alike; 0 for no limit.
    private var failuresPerSecond: UInt32 {
        UInt32(clamping: UInt64(configuration.unauthenticatedRepliesPerSecond) * Limits.failuresPerReply)
    }

    // MARK: The password algorithm

    private enum Choice {
        case offered(HashAlgorithm)
        case refused
        case tooWeak
    }

    /// Every nonce of ours says that password algorithms are on offer, so a client that knows them sends back the list
    /// it saw and its choice; a list that differs was changed on the way (RFC 8489 section 9.2.4).
    private func chosenAlgorithm(_ message: MessageView) -> Choice {
        let list = message.first(.passwordAlgorithms)
        let choice = message.first(.passwordAlgorithm)
        guard list != nil || choice != nil else { return configuration.requiresSHA256 ? .tooWeak : .offered(.md5) }
        guard let list, let choice, choice.count == 4, choice.uint16(at: 2) == 0 else { return .refused }
        let isOurs = withUnsafeBytes(of: configuration.passwordAlgorithms) {
            list.holdsSameBytes(as: $0.slice(0, configuration.passwordAlgorithmsLength))
        }
        guard isOurs else { return .refused }
        switch choice.uint16(at: 0) {
        case 1 where !configuration.requiresSHA256: return .offered(.md5)
        case 2: return .offered(.sha256)
        default: return .refused
        }
    }

    // MARK: The keys

    private struct Credential {
        var identity = ""
        /// A stored user's keys.
        var keys: CredentialKeys?
        /// The username of a time-limited credential, whose keys come from the shared secrets.
        var timeLimitedUsername: String?
        var maximumAllocations: Int?
        var bitsPerSecond: UInt64?
        var isOverQuota = false
        var expiresAtSeconds: UInt64?
        /// False for a user who is unknown, disabled or past his time. His MAC is computed all the same, so that the
        /// time an answer takes tells nobody which names exist.
        var isGood = false
    }

    private enum Lookup {
        case found(Credential)
        case ask(CredentialQuery)
    }

    private mutating func credential(
        _ username: UnsafeRawBufferPointer?,
        _ userhash: UnsafeRawBufferPointer?,
        _ moment: Moment
    ) -> Lookup {
        // USERHASH wins where both stand: a client sends one or the other (RFC 8489 section 9.2.3).
        if let userhash { return stored(.userhash(Array(userhash)), moment) }
        guard let username, let name = String(validating: username, as: UTF8.self), !name.isEmpty else {
            return .found(Credential())
        }
        guard name.utf8.contains(UInt8(ascii: ":")) else { return stored(.name(name), moment) }
        guard let limited = TimeLimitedName(name), !configuration.sharedSecrets.isEmpty else {
            return .found(Credential())
        }
        var credential = Credential(identity: limited.name, timeLimitedUsername: name)
        credential.expiresAtSeconds = limited.expiresAtSeconds
        let (latest, overflow) = moment.wallSeconds.addingReportingOverflow(configuration.maximumCredentialSeconds)
        credential.isGood =
            limited.expiresAtSeconds > moment.wallSeconds && (overflow || limited.expiresAtSeconds <= latest)
        // A name that is also a stored user's obeys what was said of that user.
        switch credentials.look(up: .name(limited.name)) {
        case .unknownYet:
            return .ask(.name(limited.name))
        case .known(let record):
            credential.isGood = credential.isGood && Self.isGood(record, moment)
            credential.maximumAllocations = record.maximumAllocations
            credential.bitsPerSecond = record.bitsPerSecond
            credential.isOverQuota = record.isOverQuota(atSeconds: moment.wallSeconds)
        case .absent:
            break
        }
        return .found(credential)
    }

    private mutating func stored(_ query: CredentialQuery, _ moment: Moment) -> Lookup {
        switch credentials.look(up: query) {
        case .unknownYet: .ask(query)
        case .absent: .found(Credential())
        case .known(let record):
            .found(
                Credential(
                    identity: record.name,
                    keys: record.keys,
                    maximumAllocations: record.maximumAllocations,
                    bitsPerSecond: record.bitsPerSecond,
                    isOverQuota: record.isOverQuota(atSeconds: moment.wallSeconds),
                    expiresAtSeconds: record.expiresAtSeconds,
                    isGood: Self.isGood(record, moment)
                )
            )
        }
    }

    private static func isGood(_ record: UserRecord, _ moment: Moment) -> Bool {
        record.isEnabled && record.expiresAtSeconds.map { $0 > moment.wallSeconds } ?? true
    }

    /// Leaves the key that fits in `signingKey`.
    /// - Returns: its length, or nil when none does.
    private func verify(
        _ message: MessageView,
        _ integrity: Integrity,
        _ algorithm: HashAlgorithm,
        _ credential: Credential
    ) -> Int? {
        let key = UnsafeMutableRawBufferPointer(rebasing: signingKey[..<algorithm.length])
        if let username = credential.timeLimitedUsername {
            for secret in configuration.sharedSecrets {
                deriveKey(username, secret, algorithm, into: key)
                if integrity.verifies(message, key: UnsafeRawBufferPointer(key), with: cryptography) {
                    return key.count
                }
            }
            return nil
        }
        if let keys = credential.keys {
            if algorithm == .md5 {
                withUnsafeBytes(of: keys.md5) { key.copyMemory(from: $0) }
            } else {
                withUnsafeBytes(of: keys.sha256) { key.copyMemory(from: $0) }
            }
        } else {
            cryptography.random(key)
        }
        return integrity.verifies(message, key: UnsafeRawBufferPointer(key), with: cryptography) ? key.count : nil
    }

    /// The key of a time-limited credential, whose password is base64(HMAC-SHA1(secret, username)).
    private func deriveKey(
        _ username: String,
        _ secret: [UInt8],
        _ algorithm: HashAlgorithm,
        into key: UnsafeMutableRawBufferPointer
    ) {
        var mac = InlineArray<20, UInt8>(repeating: 0)
        let name = Array(username.utf8)
        withUnsafeMutableBytes(of: &mac) { mac in
            secret.withUnsafeBytes { secret in
                name.withUnsafeBytes { name in
                    cryptography.authenticate(
                        .sha1,
                        key: secret,
                        first: name,
                        second: UnsafeRawBufferPointer(start: nil, count: 0),
                        mac: mac
                    )
                }
            }
        }
        let password = withUnsafeBytes(of: mac) { Base64.encoded($0) }
        let text = name + [UInt8(ascii: ":")] + Array(configuration.realm.utf8) + [UInt8(ascii: ":")] + password
        text.withUnsafeBytes { cryptography.digest(algorithm, message: $0, output: key) }
    }
}

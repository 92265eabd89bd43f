import OpenSSLCrypto
import STUN
import TURN
import TestSupport

/// A TURN client that can be told to err.
final class Client {
    enum Mode {
        /// MD5 and HMAC-SHA1, as every browser has it.
        case legacy
        /// PASSWORD-ALGORITHMS with SHA-256, and MESSAGE-INTEGRITY-SHA256.
        case sha256
        /// PASSWORD-ALGORITHMS with MD5 chosen, and MESSAGE-INTEGRITY-SHA256.
        case sha256OverMD5
    }

    /// What a request is signed with. A part that is nil is left out.
    struct Signing {
        var username: [UInt8]?
        var userhash: [UInt8]?
        var realm: [UInt8]?
        var nonce: [UInt8]?
        var algorithms: [UInt8]?
        var algorithm: [UInt8]?
        var macs: [(integrity: Integrity, key: [UInt8])]
    }

    let lab: Lab
    var tuple: FiveTuple
    var username: String
    var password: String
    var mode = Mode.legacy
    var usesUserhash = false
    private(set) var realm: [UInt8] = []
    private(set) var nonce: [UInt8] = []
    private(set) var algorithms: [UInt8] = []
    private let identity: UInt32

    init(lab: Lab, tuple: FiveTuple, username: String, password: String) {
        self.lab = lab
        self.tuple = tuple
        self.username = username
        self.password = password
        identity = UInt32.random(in: .min ... .max)
    }

    private var transactionCount: UInt64 = 0

    func newTransaction() -> TransactionID {
        transactionCount += 1
        return TransactionID(high: transactionCount, low: identity)
    }

    // MARK: What a client does

    func send(_ bytes: [UInt8]) -> Lab.Outcome { lab.receive(bytes, from: tuple) }

    /// Sends an Allocate without credentials and learns from the challenge.
    @discardableResult
    func challenge() -> Answer? {
        let answer = send(request(.allocate, signing: nil)).answer
        learn(from: answer)
        return answer
    }

    func learn(from answer: Answer?) {
        realm = answer?.value(.realm) ?? realm
        nonce = answer?.value(.nonce) ?? nonce
        algorithms = answer?.value(.passwordAlgorithms) ?? algorithms
    }

    /// Signs and sends, after a challenge where there was none yet.
    func perform(
        _ method: STUN.Method,
        transaction: TransactionID? = nil,
        _ attributes: (inout MessageBuilder) -> Void = { _ in }
    ) -> Answer? {
        if nonce.isEmpty { challenge() }
        return send(request(method, transaction: transaction, signing: signing(), attributes)).answer
    }

    func allocate(
        lifetimeSeconds: UInt32? = nil,
        transaction: TransactionID? = nil,
        _ more: (inout MessageBuilder) -> Void = { _ in }
    ) -> Answer? {
        perform(.allocate, transaction: transaction) { builder in
            builder.append(.requestedTransport, 0x1100_0000 as UInt32)
            if let lifetimeSeconds { builder.append(.lifetime, lifetimeSeconds) }
            more(&builder)
        }
    }

    func refresh(_ lifetimeSeconds: UInt32? = nil, family: UInt8? = nil, transaction: TransactionID? = nil) -> Answer? {
        perform(.refresh, transaction: transaction) { builder in
            if let lifetimeSeconds { builder.append(.lifetime, lifetimeSeconds) }
            if let family { builder.append(.requestedAddressFamily, UInt32(family) << 24) }
        }
    }

    func permit(_ peers: [Endpoint], transaction: TransactionID? = nil) -> Answer? {
        perform(.createPermission, transaction: transaction) { builder in
            for peer in peers { builder.append(.xorPeerAddress, xor: peer) }
        }
    }

    func bind(_ number: UInt16, _ peer: Endpoint, transaction: TransactionID? = nil) -> Answer? {
        perform(.channelBind, transaction: transaction) { builder in
            builder.append(.channelNumber, UInt32(number) << 16)
            builder.append(.xorPeerAddress, xor: peer)
        }
    }

    func indicate(_ peer: Endpoint, _ data: [UInt8] = Array("payload".utf8)) -> Lab.Outcome {
        send(
            message(MessageType(.send, .indication)) { builder in
                builder.append(.xorPeerAddress, xor: peer)
                builder.append(.data, data)
            }
        )
    }

    func channelData(_ number: UInt16, _ data: [UInt8] = Array("payload".utf8)) -> Lab.Outcome {
        let header = [UInt8(number >> 8), UInt8(number & 0xFF), UInt8(data.count >> 8), UInt8(data.count & 0xFF)]
        return lab.receiveChannelData(header + data, from: tuple)
    }

    /// Where its relay is bound; nil without an allocation.
    func relay(_ family: AddressFamily = .ipv4) -> RelayLeg? {
        let index = lab.engine.allocation(of: tuple)
        return lab.relays.open.values.first { $0.request.allocation == index && $0.leg.local.family == family }?.leg
    }

    // MARK: Messages

    func key(_ hash: HashAlgorithm) -> [UInt8] {
        let text = Array(username.utf8) + [0x3A] + realm + [0x3A] + Array(password.utf8)
        return hash == .sha256 ? Digest.sha256(text) : Digest.md5(text)
    }

    /// What signs an honest request.
    func signing() -> Signing {
        var signing = Signing(realm: realm, nonce: nonce, macs: [])
        if usesUserhash {
            signing.userhash = Digest.sha256(Array(username.utf8) + [0x3A] + realm)
        } else {
            signing.username = Array(username.utf8)
        }
        switch mode {
        case .legacy: signing.macs = [(.sha1, key(.md5))]
        case .sha256, .sha256OverMD5:
            signing.algorithms = algorithms
            signing.algorithm = mode == .sha256 ? [0, 2, 0, 0] : [0, 1, 0, 0]
            signing.macs = [(.sha256, key(mode == .sha256 ? .sha256 : .md5))]
        }
        return signing
    }

    func request(
        _ method: STUN.Method,
        transaction: TransactionID? = nil,
        signing: Signing?,
        fingerprint: Bool = false,
        _ attributes: (inout MessageBuilder) -> Void = { _ in }
    ) -> [UInt8] {
        message(MessageType(method, .request), transaction: transaction) { builder in
            attributes(&builder)
            if let signing {
                if let username = signing.username { builder.append(.username, username) }
                if let userhash = signing.userhash { builder.append(.userhash, userhash) }
                if let realm = signing.realm { builder.append(.realm, realm) }
                if let nonce = signing.nonce { builder.append(.nonce, nonce) }
                if let algorithms = signing.algorithms { builder.append(.passwordAlgorithms, algorithms) }
                if let algorithm = signing.algorithm { builder.append(.passwordAlgorithm, algorithm) }
                for mac in signing.macs {
                    mac.key.withUnsafeBytes { builder.append(mac.integrity, key: $0, with: lab.cryptography) }
                }
            }
            if fingerprint { builder.appendFingerprint() }
        }
    }

    func message(
        _ type: MessageType,
        transaction: TransactionID? = nil,
        _ attributes: (inout MessageBuilder) -> Void = { _ in }
    ) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 66_000)
        let length = bytes.withUnsafeMutableBytes { buffer -> Int in
            var builder = MessageBuilder(type, transaction ?? newTransaction(), into: buffer)
            attributes(&builder)
            return builder.finish() ?? 0
        }
        return Array(bytes.prefix(length))
    }

    /// Whether the answer carries this integrity attribute, made with the client's key.
    func isSigned(_ answer: Answer, _ integrity: Integrity, _ hash: HashAlgorithm) -> Bool {
        answer.bytes.withUnsafeBytes { bytes in
            guard let view = try? MessageView(bytes) else { return false }
            return key(hash).withUnsafeBytes { integrity.verifies(view, key: $0, with: lab.cryptography) }
        }
    }
}

/// Bytes behind what the MAC covers, with the header's length fixed up, as an attacker on the path would do it.
func smuggling(_ attributes: [UInt8], into message: [UInt8], fingerprint: Bool) -> [UInt8] {
    var bytes = message + attributes
    let length = bytes.count - 20 + (fingerprint ? 8 : 0)
    bytes[2] = UInt8(length >> 8)
    bytes[3] = UInt8(length & 0xFF)
    guard fingerprint else { return bytes }
    let value = bytes.withUnsafeBytes { Fingerprint.value(of: $0) }
    return bytes + hex("8028 0004") + withUnsafeBytes(of: value.bigEndian, Array.init)
}

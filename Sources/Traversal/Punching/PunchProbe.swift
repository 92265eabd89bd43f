import STUN

/// Probes: Binding requests that only the peer can have made, and their answers. They have the keys of ICE and are too
/// short for a check, which says more; the check follows when a probe was answered.
struct PunchProbe {
    /// What this side's description says, and what the peer's does.
    let own: ICECredentials
    let peer: ICECredentials
    let cryptography: any Cryptography
    /// All probes of one search are alike, so that they are made once; an answer tells by its source which one it was.
    let transaction: TransactionID
    let request: [UInt8]
    private let ownKey: [UInt8]
    private let peerKey: [UInt8]

    init(own: ICECredentials, peer: ICECredentials, _ cryptography: any Cryptography) {
        (self.own, self.peer, self.cryptography) = (own, peer, cryptography)
        transaction = cryptography.randomTransaction()
        (ownKey, peerKey) = (Array(own.password.utf8), Array(peer.password.utf8))
        let name = Self.name(peer)
        request = Self.build(MessageType(.binding, .request), transaction, peerKey, cryptography) {
            $0.append(.username, name)
        }
    }

    enum Kind {
        /// A probe, with the answer to it.
        case request(answer: [UInt8])
        /// A check of ICE's, which is for the agent.
        case check
        /// Where the peer saw the probe come from.
        case answer(mapped: Endpoint?)
    }

    /// - Returns: nil for what the peer has not made.
    func kind(_ message: MessageView, from source: Endpoint) -> Kind? {
        guard message.type.method == .binding else { return nil }
        switch message.type.messageClass {
        case .request:
            guard let username = message.first(.username) else { return nil }
            let isProbe = username.elementsEqual(Self.name(own))
            guard isProbe || username.starts(with: own.usernameFragment.utf8 + [UInt8(ascii: ":")]),
                ICEMessage.isAuthentic(message, key: ownKey, with: cryptography)
            else { return nil }
            return isProbe ? .request(answer: answer(to: message.transactionID, source)) : .check
        case .successResponse:
            guard message.transactionID == transaction,
                ICEMessage.isAuthentic(message, key: peerKey, with: cryptography)
            else { return nil }
            let mapped = message.first(.xorMappedAddress).flatMap { AddressAttribute.decodeXOR($0, transaction) }
            return .answer(mapped: mapped)
        case .errorResponse, .indication: return nil
        }
    }

    private func answer(to transaction: TransactionID, _ source: Endpoint) -> [UInt8] {
        Self.build(MessageType(.binding, .successResponse), transaction, ownKey, cryptography) {
            $0.append(.xorMappedAddress, xor: source)
        }
    }

    private static func name(_ credentials: ICECredentials) -> [UInt8] {
        Array(credentials.usernameFragment.utf8.prefix(PunchLimits.fragmentCharacters))
    }

    private static func build(
        _ type: MessageType,
        _ transaction: TransactionID,
        _ key: [UInt8],
        _ cryptography: any Cryptography,
        _ attributes: (inout MessageBuilder) -> Void
    ) -> [UInt8] {
        withUnsafeTemporaryAllocation(byteCount: PunchLimits.probeBytes, alignment: 8) { space in
            var builder = MessageBuilder(type, transaction, into: space)
            attributes(&builder)
            key.withUnsafeBytes { builder.append(.sha1, key: $0, with: cryptography) }
            return builder.finish().map { Array(UnsafeRawBufferPointer(space)[..<$0]) } ?? []
        }
    }
}

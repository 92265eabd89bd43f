import STUN

/// What can be read off any answer.
package enum AnswerRules {
    /// The code of ERROR-CODE (RFC 8489 section 14.8), 300 to 699.
    package static func errorCode(of message: MessageView) -> UInt16? {
        guard let value = message.first(.errorCode), value.count >= 4 else { return nil }
        let (hundreds, rest) = (UInt16(value[2] & 0x07), UInt16(value[3]))
        guard (3...6).contains(hundreds), rest < 100 else { return nil }
        return hundreds * 100 + rest
    }

    /// The reason phrase, shortened, with all that could confuse a terminal taken out.
    package static func reason(of message: MessageView) -> String {
        guard let value = message.first(.errorCode), value.count > 4 else { return "" }
        let phrase = String(decoding: value.slice(4, value.count - 4), as: UTF8.self)
        let shown = phrase.unicodeScalars.prefix(Limits.reasonCharacters).filter {
            $0.value >= 0x20 && $0.value < 0x7F
        }
        return String(String.UnicodeScalarView(shown))
    }

    /// The attributes that answers to a client may have and that must be understood.
    @Sendable
    package static func understands(_ type: AttributeType) -> Bool {
        switch type {
        case .mappedAddress, .username, .messageIntegrity, .errorCode, .unknownAttributes, .realm, .nonce,
            .messageIntegritySHA256, .passwordAlgorithm, .userhash, .xorMappedAddress, .channelNumber, .lifetime,
            .xorPeerAddress, .data, .xorRelayedAddress, .requestedAddressFamily, .evenPort, .requestedTransport,
            .dontFragment, .reservationToken, .padding, .changeRequest, .responsePort:
            true
        default: false
        }
    }

    static func hasUnknownAttributes(_ message: MessageView, _ understands: (AttributeType) -> Bool) -> Bool {
        var iterator = message.attributes
        while let attribute = iterator.next() {
            // 0x0002, 0x0004, 0x0005 and 0x000B are RFC 3489's, which servers of that age still put into their answers;
            // RFC 8489 section 18.3.1 keeps them reserved, and nothing but CHANGED-ADDRESS, 0x0005, is of any use.
            let isHistoric = [0x0002, 0x0004, 0x0005, 0x000B].contains(attribute.type.rawValue)
            if attribute.type.isComprehensionRequired, !isHistoric, !understands(attribute.type) { return true }
        }
        return false
    }

    /// Whether the nonce says that password algorithms are on offer, and none are (RFC 8489 section 9.2.5).
    static func isBidDown(_ message: MessageView) -> Bool {
        guard let nonce = message.first(.nonce) else { return false }
        return SecurityFeatures(nonce: Array(nonce)).offersPasswordAlgorithms
            && message.first(.passwordAlgorithms) == nil
    }

    /// XOR-MAPPED-ADDRESS, or MAPPED-ADDRESS of a server older than that.
    package static func mappedAddress(of message: MessageView) -> Endpoint? {
        if let value = message.first(.xorMappedAddress) {
            return AddressAttribute.decodeXOR(value, message.transactionID)
        }
        return message.first(.mappedAddress).flatMap(AddressAttribute.decode)
    }
}

/// The security features that a nonce announces behind its cookie (RFC 8489 section 9.2).
struct SecurityFeatures: Equatable {
    var offersPasswordAlgorithms = false
    var offersUsernameAnonymity = false

    init(nonce: [UInt8]) {
        guard nonce.count >= Self.cookie.count + 4, nonce.starts(with: Self.cookie) else { return }
        var bits: UInt32 = 0
        for character in nonce[Self.cookie.count..<(Self.cookie.count + 4)] {
            guard let value = Self.sixBits(character) else { return }
            bits = bits << 6 | value
        }
        // Counted from the least significant of 24 bits, as the nonces of RFC 8489's appendix B have it.
        offersPasswordAlgorithms = bits & 1 != 0
        offersUsernameAnonymity = bits & 2 != 0
    }

    private static let cookie = Array("obMatJos2".utf8)

    /// A character of base64 (RFC 4648 section 4).
    private static func sixBits(_ character: UInt8) -> UInt32? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}

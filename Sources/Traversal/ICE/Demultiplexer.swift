import STUN

/// What a datagram is, by its first byte (RFC 7983 section 7), for a socket that carries several protocols.
package enum Demultiplexer {
    package enum Kind: Hashable, Sendable {
        case stun, dtls, channelData, media, unknown
    }

    package static func kind(_ bytes: UnsafeRawBufferPointer) -> Kind {
        switch bytes.first {
        case .some(0...3): .stun
        case .some(20...63): .dtls
        // From a TURN server; between peers nobody sends it.
        case .some(64...79): .channelData
        case .some(128...191): .media
        default: .unknown
        }
    }

    /// The first half of a check's user name, which says whose agent it is for: the local user name fragment (RFC 8445
    /// section 7.2.2). For a socket that several agents share; nothing of the message has been proved by then.
    /// - Returns: nil for what is no Binding request, or has no such name.
    package static func localFragment(_ bytes: UnsafeRawBufferPointer) -> String? {
        guard let message = try? MessageView(bytes), message.type == MessageType(.binding, .request),
            let username = message.first(.username), let colon = username.firstIndex(of: UInt8(ascii: ":"))
        else { return nil }
        let fragment = String(decoding: username[..<colon], as: UTF8.self)
        return CandidateLine.isToken(fragment, ICELimits.usernameFragmentCharacters) ? fragment : nil
    }
}

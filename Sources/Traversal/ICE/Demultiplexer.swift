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
}

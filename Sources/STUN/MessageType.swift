/// What a message does: the 12-bit method of RFC 8489 section 5.
package struct Method: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt16

    @inlinable
    package init(rawValue: UInt16) { self.rawValue = rawValue & 0x0FFF }

    package static let binding = Method(rawValue: 0x001)  // RFC 8489 section 18.2
    package static let allocate = Method(rawValue: 0x003)  // RFC 8656 section 17, down to channelBind
    package static let refresh = Method(rawValue: 0x004)
    package static let send = Method(rawValue: 0x006)
    package static let data = Method(rawValue: 0x007)
    package static let createPermission = Method(rawValue: 0x008)
    package static let channelBind = Method(rawValue: 0x009)
    package static let connect = Method(rawValue: 0x00A)  // RFC 6062 section 6.1, down to connectionAttempt
    package static let connectionBind = Method(rawValue: 0x00B)
    package static let connectionAttempt = Method(rawValue: 0x00C)
}

/// The two class bits of RFC 8489 section 5.
package enum MessageClass: UInt8, Hashable, Sendable {
    case request = 0b00
    case indication = 0b01
    case successResponse = 0b10
    case errorResponse = 0b11
}

/// The first two bytes of a message: two zero bits, then the method's twelve bits with the class's two mixed in.
///
///     bit  13 12 11 10  9  8  7  6  5  4  3  2  1  0
///          M11 …    M7  C1 M6 M5 M4 C0 M3 M2 M1 M0
package struct MessageType: Hashable, Sendable {
    package let method: Method
    package let messageClass: MessageClass

    package init(_ method: Method, _ messageClass: MessageClass) {
        self.method = method
        self.messageClass = messageClass
    }

    /// - Returns: nil when one of the two leading bits is set, since that is no STUN message (RFC 8489 section 6.3).
    package init?(rawValue: UInt16) {
        guard rawValue & 0xC000 == 0 else { return nil }
        let classBits = UInt8(truncatingIfNeeded: (rawValue & 0x0100) >> 7 | (rawValue & 0x0010) >> 4)
        guard let messageClass = MessageClass(rawValue: classBits) else { return nil }
        self.messageClass = messageClass
        self.method = Method(
            rawValue: (rawValue & 0x3E00) >> 2 | (rawValue & 0x00E0) >> 1 | rawValue & 0x000F
        )
    }

    package var rawValue: UInt16 {
        let bits = method.rawValue
        let classBits = UInt16(messageClass.rawValue)
        return (bits & 0x0F80) << 2 | (bits & 0x0070) << 1 | bits & 0x000F
            | (classBits & 0b10) << 7 | (classBits & 0b01) << 4
    }
}

/// The 96-bit transaction id.
package struct TransactionID: Hashable, Sendable, BitwiseCopyable {
    /// Its first eight bytes in network order, as a number.
    package var high: UInt64
    /// Its last four bytes in network order, as a number.
    package var low: UInt32

    @inlinable
    package init(high: UInt64, low: UInt32) {
        self.high = high
        self.low = low
    }
}

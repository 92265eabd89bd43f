import COpenSSL

/// The records of an established connection under TLS 1.3 (RFC 8446 section 5), for a session that has given OpenSSL's back.
///
/// OpenSSL keeps 14 KB for each connection until its end, nearly all of which the handshake alone needs, and has no call that
/// releases it. What is left to do after a handshake is small: seal and open records with its ciphers, and hear three messages
/// (KeyUpdate, and the alerts). Handshakes, with their tickets, stay OpenSSL's, as does TLS 1.2.
///
///     type 23 │ version 3,3 │ length 2 │ sealed: text, type 1, zeros │ tag 16
final class RecordLayer {
    /// What a record of the peer's says.
    enum Event: Equatable {
        /// As many bytes of application data, in the target; never none.
        case data(Int)
        /// Nothing for the application.
        case control
        case closeNotify
        /// The peer ended the connection, for this reason.
        case alert(UInt8)
    }

    /// What is wrong with a record, and the alert that says so (RFC 8446 section 6).
    struct Violation: Error, Equatable {
        let alert: UInt8
        let reason: StaticString

        static func == (one: Violation, other: Violation) -> Bool { one.alert == other.alert }

        static let unexpectedMessage = Violation(alert: 10, reason: "a record that has no place after the handshake")
        static let forged = Violation(alert: 20, reason: "a record that the peer has not sealed")
        static let tooLong = Violation(alert: 22, reason: "a record longer than they may be")
        static let undecodable = Violation(alert: 50, reason: "a control record that is none")
        static let illegal = Violation(alert: 47, reason: "a KeyUpdate that asks for nothing known")
        static let internalError = Violation(alert: 80, reason: "OpenSSL's ciphers fail")
    }

    static let headerBytes = 5
    static let plaintextBytes = 16_384
    /// Section 5.2: the type, the tag, and padding within 256 bytes.
    static let sealedBytes = plaintextBytes + 256
    /// What `seal` makes a text longer by.
    static let overheadBytes = headerBytes + 1 + TrafficKeys.tagBytes

    let applicationProtocol: String?
    private let inbound: TrafficKeys
    private let outbound: TrafficKeys
    /// Records under one key: AES-GCM is safe for 2^24.5 of full size (section 5.5).
    var recordsPerKey: UInt64 = 1 << 24

    init(inbound: TrafficKeys, outbound: TrafficKeys, applicationProtocol: String?) {
        self.inbound = inbound
        self.outbound = outbound
        self.applicationProtocol = applicationProtocol
    }

    // MARK: In

    /// How long the record is that begins here, with its header.
    /// - Returns: nil while the header is not whole.
    static func length(of bytes: UnsafeRawBufferPointer) throws(Violation) -> Int? {
        guard bytes.count >= headerBytes else { return nil }
        // Every record is sealed, and seals its true type; change_cipher_spec ends with the handshake (section 5).
        guard bytes[0] == ContentType.applicationData else { throw .unexpectedMessage }
        let count = Int(bytes[3]) << 8 | Int(bytes[4])
        guard count <= sealedBytes else { throw .tooLong }
        guard count > TrafficKeys.tagBytes else { throw .forged }
        return headerBytes + count
    }

    /// Opens one record.
    /// - Parameters:
    ///   - target: for `record.count` at least.
    ///   - send: takes a record that answers it.
    func open(
        _ record: UnsafeRawBufferPointer,
        into target: UnsafeMutableRawBufferPointer,
        send: (UnsafeRawBufferPointer) -> Void
    ) throws(Violation) -> Event {
        let header = UnsafeRawBufferPointer(rebasing: record[..<Self.headerBytes])
        let sealed = UnsafeRawBufferPointer(rebasing: record[Self.headerBytes...])
        guard inbound.open(sealed, header: header, into: target) else { throw .forged }
        // Section 5.4: the type is the last byte that is not zero.
        var end = sealed.count - TrafficKeys.tagBytes
        while end > 0, target[end - 1] == 0 { end -= 1 }
        guard end > 0 else { throw .unexpectedMessage }
        let count = end - 1
        guard count <= Self.plaintextBytes else { throw .tooLong }
        let text = UnsafeRawBufferPointer(rebasing: target[..<count])
        switch target[count] {
        case ContentType.applicationData: return count > 0 ? .data(count) : .control
        case ContentType.alert: return try Self.alert(text)
        case ContentType.handshake:
            try updateKeys(text, send)
            return .control
        default: throw .unexpectedMessage
        }
    }

    private static func alert(_ text: UnsafeRawBufferPointer) throws(Violation) -> Event {
        // Section 5.1: one alert is one record. Its level says nothing any more (section 6).
        guard text.count == 2 else { throw .undecodable }
        switch text[1] {
        case AlertCode.closeNotify: return .closeNotify
        // What follows it is a close_notify (section 6.1).
        case AlertCode.userCanceled: return .control
        default: return .alert(text[1])
        }
    }

    /// Section 4.6.3. A client has no other message for a server that asks for no certificate, and one of five bytes that
    /// ends with its record comes whole.
    private func updateKeys(
        _ text: UnsafeRawBufferPointer,
        _ send: (UnsafeRawBufferPointer) -> Void
    ) throws(Violation) {
        guard text.count >= 4, text[0] == Self.keyUpdate else { throw .unexpectedMessage }
        guard text.count == 5, text[1] == 0, text[2] == 0, text[3] == 1 else { throw .undecodable }
        guard text[4] <= 1 else { throw .illegal }
        guard inbound.update() else { throw .internalError }
        if text[4] == 1 { guard changeOutboundKeys(send) else { throw .internalError } }
    }

    private static let keyUpdate: UInt8 = 24

    // MARK: Out

    /// Seals a text in as many records as it takes.
    /// - Returns: false where OpenSSL fails. Nothing may be sent then any more.
    func seal(
        _ text: UnsafeRawBufferPointer,
        _ type: UInt8 = ContentType.applicationData,
        send: (UnsafeRawBufferPointer) -> Void
    ) -> Bool {
        var rest = text[...]
        while rest.count > 0 {
            if outbound.sequence >= recordsPerKey { guard changeOutboundKeys(send) else { return false } }
            let piece = UnsafeRawBufferPointer(rebasing: rest.prefix(Self.plaintextBytes))
            guard sealOne(piece, type, send) else { return false }
            rest = rest.dropFirst(Self.plaintextBytes)
        }
        return true
    }

    func sealAlert(_ code: UInt8, send: (UnsafeRawBufferPointer) -> Void) -> Bool {
        let isGoodbye = code == AlertCode.closeNotify
        return withUnsafeBytes(of: (isGoodbye ? 1 : 2 as UInt8, code)) { seal($0, ContentType.alert, send: send) }
    }

    private func changeOutboundKeys(_ send: (UnsafeRawBufferPointer) -> Void) -> Bool {
        let message: (UInt8, UInt8, UInt8, UInt8, UInt8) = (Self.keyUpdate, 0, 0, 1, 0)
        return withUnsafeBytes(of: message) { sealOne($0, ContentType.handshake, send) } && outbound.update()
    }

    private func sealOne(
        _ text: UnsafeRawBufferPointer,
        _ type: UInt8,
        _ send: (UnsafeRawBufferPointer) -> Void
    ) -> Bool {
        withUnsafeTemporaryAllocation(byteCount: text.count + Self.overheadBytes, alignment: 8) { record in
            let length = record.count - Self.headerBytes
            record[0] = ContentType.applicationData
            (record[1], record[2]) = (3, 3)
            (record[3], record[4]) = (UInt8(truncatingIfNeeded: length >> 8), UInt8(truncatingIfNeeded: length))
            let header = UnsafeRawBufferPointer(rebasing: record[..<Self.headerBytes])
            let sealed = UnsafeMutableRawBufferPointer(rebasing: record[Self.headerBytes...])
            guard outbound.seal(text, type, header: header, into: sealed) else { return false }
            send(UnsafeRawBufferPointer(record))
            return true
        }
    }
}

/// Section 5.1.
enum ContentType {
    static let alert: UInt8 = 21
    static let handshake: UInt8 = 22
    static let applicationData: UInt8 = 23
}

/// Section 6.
enum AlertCode {
    static let closeNotify: UInt8 = 0
    static let userCanceled: UInt8 = 90
}

import Traversal

/// A record of a DTLS handshake in a Binding indication that names the connection which it is for.
///
/// Two connections between the same two programs share their sockets and relays, and so the addresses at both ends.
/// Encrypted records then tell themselves who can open them; those of a handshake do not, and DTLS 1.2 has no other
/// name for a connection (RFC 6347). Only peers whose description has the option `Self.option` are sent it; the others
/// get plain records, as RFC 8842 has it.
enum HandshakeEnvelope {
    /// A token of `a=ice-options` (RFC 8839 section 5.6), which everybody else passes over.
    static let option = "turnpike-handshake"

    /// - Parameters:
    ///   - fragment: the receiver's user name fragment.
    ///   - sender: this side's.
    static func seal(
        _ record: UnsafeRawBufferPointer,
        to fragment: String,
        from sender: String,
        _ cryptography: any Cryptography
    ) -> [UInt8] {
        let username = Array("\(fragment):\(sender)".utf8.prefix(ClientLimits.checkUsernameBytes))
        let transaction = TransactionID(
            high: cryptography.randomWord(),
            low: UInt32(truncatingIfNeeded: cryptography.randomWord())
        )
        // A header, three attributes with theirs, and what fills them up to words.
        let room = 48 + username.count + record.count
        return [UInt8](unsafeUninitializedCapacity: room) { buffer, count in
            var builder = MessageBuilder(
                MessageType(.binding, .indication),
                transaction,
                into: UnsafeMutableRawBufferPointer(buffer)
            )
            builder.append(.username, username)
            builder.append(.data, record)
            builder.appendFingerprint()
            count = builder.finish() ?? 0
        }
    }

    /// - Returns: the receiver's fragment and the record; nil for what is no such indication.
    static func open(_ bytes: UnsafeRawBufferPointer) -> (fragment: String, record: UnsafeRawBufferPointer)? {
        guard let message = try? MessageView(bytes), message.type == MessageType(.binding, .indication),
            let username = message.first(.username), username.count <= ClientLimits.checkUsernameBytes,
            let colon = username.firstIndex(of: UInt8(ascii: ":")),
            let record = message.first(.data), Demultiplexer.kind(record) == .dtls
        else { return nil }
        return (String(decoding: username[..<colon], as: UTF8.self), record)
    }
}

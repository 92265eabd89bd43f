/// A client's message: a checked JSON object, and where in it the members stand that the server reads.
///
/// It points into the frame that it was read from and is not kept beyond the call that received it.
struct Message {
    let text: UnsafeBufferPointer<UInt8>
    private var spans = InlineArray<24, JSONSpan>(repeating: JSONSpan())

    init(text: UnsafeBufferPointer<UInt8>) { self.text = text }

    /// - Parameter scratch: memory that one message leaves to the next.
    static func decode(
        _ text: UnsafeBufferPointer<UInt8>,
        scratch: inout [JSONKey]
    ) throws(JSONFault) -> Message {
        guard let base = text.baseAddress else { throw JSONFault(reason: .syntax, offset: 0) }
        var message = Message(text: text)
        var scanner = JSONScanner(base: base, count: text.count, scratch: scratch)
        scratch = []
        defer { scratch = scanner.releaseScratch() }
        try scanner.document { scanner, key, span in
            // A member that is null is one that is not there.
            if span.kind == .null { return }
            if let field = Self.field(of: key, in: scanner) { message.spans[field.rawValue] = span }
        }
        return message
    }

    private static func field(of key: JSONKey, in scanner: borrowing JSONScanner) -> Field? {
        // No name is longer, and what is written with escapes may say any of them.
        guard key.isEscaped || key.end &- key.start <= 12 else { return nil }
        for field in Field.all where scanner.says(key, field.name) { return field }
        return nil
    }

    subscript(field: Field) -> JSONSpan? {
        let span = spans[field.rawValue]
        return span.count > 0 ? span : nil
    }

    /// The member as it stands in the frame; empty where there is none.
    func raw(_ field: Field) -> UnsafeBufferPointer<UInt8> {
        guard let span = self[field] else { return UnsafeBufferPointer(start: nil, count: 0) }
        return UnsafeBufferPointer(rebasing: text[span.start..<span.end])
    }

    /// What kind of message it is; `nil` for a type that the server does not know, or none.
    var kind: MessageKind? {
        guard let span = self[.type], span.isString else { return nil }
        if span.kind == .string { return Self.kind(contents(of: span)) }
        return JSONString.decoded(contents(of: span)).withUnsafeBufferPointer(Self.kind)
    }

    private static func kind(_ says: UnsafeBufferPointer<UInt8>) -> MessageKind? {
        for kind in MessageKind.all {
            let name = kind.name
            guard says.count == name.utf8CodeUnitCount else { continue }
            if (0..<says.count).allSatisfy({ says[$0] == name.utf8Start[$0] }) { return kind }
        }
        return nil
    }

    /// A string that is not empty, or `nil` where there is none: the original takes an empty one for none.
    /// - Throws: `bad-message` for a value of another type, and for one that is too long.
    func string(_ field: Field, bytesMax: Int) throws(Refusal) -> String? {
        guard let span = self[field] else { return nil }
        guard span.isString else { throw Refusal(.badMessage, "\(field.name) must be a string") }
        let inside = contents(of: span)
        guard inside.count > 0 else { return nil }
        let text =
            span.kind == .string
            ? String(decoding: inside, as: UTF8.self) : String(decoding: JSONString.decoded(inside), as: UTF8.self)
        guard text.utf8.count <= bytesMax else {
            throw Refusal(.badMessage, "\(field.name) is longer than \(bytesMax) bytes")
        }
        return text
    }

    /// A whole number from 0 on, or `nil` where there is none.
    /// - Throws: `bad-message` for anything else.
    func wholeNumber(_ field: Field) throws(Refusal) -> UInt64? {
        guard let span = self[field] else { return nil }
        // Nineteen digits fit 64 bits. A longer number, or one with a fraction or an exponent, goes through a double.
        let text = String(decoding: raw(field), as: UTF8.self)
        if span.kind == .number {
            if let number = UInt64(text) { return number }
            if let number = Double(text) {
                if number >= 0x1p64 { return .max }
                if let whole = UInt64(exactly: number) { return whole }
            }
        }
        throw Refusal(.badMessage, "\(field.name) must be a whole number, 0 or more")
    }

    /// True or false, or `nil` where there is neither.
    /// - Throws: `bad-message` for anything else.
    func bool(_ field: Field) throws(Refusal) -> Bool? {
        guard let span = self[field] else { return nil }
        guard span.kind == .bool else { throw Refusal(.badMessage, "\(field.name) must be true or false") }
        return text[span.start] == UInt8(ascii: "t")
    }

    /// What echoes the request's `id`; empty where it has none.
    /// - Throws: `bad-message` where it cannot be echoed.
    func requestID() throws(Refusal) -> UnsafeBufferPointer<UInt8> {
        guard let span = self[.id] else { return UnsafeBufferPointer(start: nil, count: 0) }
        guard span.isString || span.kind == .number, span.count <= SignalingLimits.requestIDBytesMax else {
            let bytes = SignalingLimits.requestIDBytesMax
            throw Refusal(.badMessage, "id must be a string or a number of at most \(bytes) bytes")
        }
        return raw(.id)
    }

    /// The metadata as an object; `{}` where there is none.
    func metadata() throws(Refusal) -> [UInt8] {
        guard let span = self[.metadata] else { return Array("{}".utf8) }
        guard span.kind == .object, span.count <= SignalingLimits.metadataBytesMax else {
            let bytes = SignalingLimits.metadataBytesMax
            throw Refusal(.badMessage, "metadata must be an object of at most \(bytes) bytes")
        }
        return Array(raw(.metadata))
    }

    /// Between the quotes.
    private func contents(of span: JSONSpan) -> UnsafeBufferPointer<UInt8> {
        UnsafeBufferPointer(rebasing: text[(span.start &+ 1)..<(span.end &- 1)])
    }
}

/// A message of the protocol that carries a TCP connection through a data channel of its own: a type, and what belongs
/// to it, numbers in network order.
enum ForwardMessage {
    /// The first of who opened the channel: where the other is to connect to, and how many bytes it may send then.
    case open(target: String, credit: Int)
    /// The connection stands. The peer may send so many bytes beyond those that nobody has to allow.
    case accept(credit: Int)
    /// There will be no connection, and why. The last message.
    case refuse(ForwardRefusal)
    /// Bytes of the connection.
    case data(UnsafeRawBufferPointer)
    /// So many bytes were taken, and the peer may send as many more.
    case credit(Int)
    /// Nothing more comes in this direction.
    case end

    private enum Kind: UInt8 {
        case open = 1, accept, refuse, data, credit, end
    }

    static let dataHeader = Kind.data.rawValue

    /// - Parameter bytes: what `data` shows is a part of them.
    init(_ bytes: UnsafeRawBufferPointer) throws(ForwardFlowError) {
        guard let first = bytes.first, let kind = Kind(rawValue: first) else { throw .malformed }
        let body = UnsafeRawBufferPointer(rebasing: bytes.dropFirst())
        switch kind {
        case .open:
            let credit = try Self.number(UnsafeRawBufferPointer(rebasing: body.prefix(4)))
            let name = body.dropFirst(4)
            guard 1...ForwardLimits.targetBytes ~= name.count, let target = String(validating: name, as: UTF8.self)
            else { throw .malformed }
            self = .open(target: target, credit: credit)
        case .accept: self = .accept(credit: try Self.number(body))
        case .refuse:
            guard let reason = body.first, body.count <= 1 + ForwardLimits.explanationBytes else { throw .malformed }
            self = .refuse(
                ForwardRefusal(
                    reason: ForwardRefusal.Reason(rawValue: reason) ?? .failed,
                    explanation: String(decoding: body.dropFirst(), as: UTF8.self)
                )
            )
        case .data:
            guard !body.isEmpty else { throw .malformed }
            self = .data(body)
        case .credit:
            let count = try Self.number(body)
            guard count > 0 else { throw .malformed }
            self = .credit(count)
        case .end:
            guard body.isEmpty else { throw .malformed }
            self = .end
        }
    }

    private static func number(_ body: UnsafeRawBufferPointer) throws(ForwardFlowError) -> Int {
        guard body.count == 4 else { throw .malformed }
        return body.reduce(0) { $0 << 8 | Int($1) }
    }

    var bytes: [UInt8] {
        switch self {
        case .open(let target, let credit): [Kind.open.rawValue] + Self.digits(credit) + target.utf8
        case .accept(let credit): [Kind.accept.rawValue] + Self.digits(credit)
        case .refuse(let refusal):
            [Kind.refuse.rawValue, refusal.reason.rawValue]
                + refusal.explanation.utf8.prefix(ForwardLimits.explanationBytes)
        case .data(let bytes): [Self.dataHeader] + bytes
        case .credit(let count): [Kind.credit.rawValue] + Self.digits(count)
        case .end: [Kind.end.rawValue]
        }
    }

    private static func digits(_ number: Int) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) }
    }

}

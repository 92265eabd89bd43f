import NIOCore
import NIOWebSocket

/// Makes messages of frames, by the rules that hold between frames (RFC 6455 sections 5.4, 5.5 and 8.1).
struct MessageAssembler {
    enum Event: Equatable {
        case message(ByteBuffer, isText: Bool)
        case ping(ByteBuffer)
        case pong(ByteBuffer)
        /// The peer ends it; nil where it gives no code.
        case close(UInt16?)
    }

    private struct Partial {
        let isText: Bool
        var bytes: ByteBuffer
        var fragments = 1
        var text = UTF8Check()
    }

    private let fragmentsMax: Int
    private var partial: Partial?

    /// - Parameter fragments: that one message may have.
    init(fragments: Int = GatewayLimits.fragments) { fragmentsMax = fragments }

    /// - Parameter frame: one that `WebSocketDecoder` let through.
    /// - Returns: nil while the message goes on.
    mutating func take(_ frame: WebSocketFrame) throws(WebSocketFailure) -> Event? {
        let payload = frame.unmaskedData
        switch frame.opcode {
        case .ping: return .ping(payload)
        case .pong: return .pong(payload)
        case .connectionClose: return .close(try Self.closeCode(payload))
        case .text, .binary: return try begin(payload, isText: frame.opcode == .text, isFinal: frame.fin)
        case .continuation: return try go(on: payload, isFinal: frame.fin)
        default: throw .protocolError("an unknown opcode")
        }
    }

    private mutating func begin(
        _ payload: ByteBuffer,
        isText: Bool,
        isFinal: Bool
    ) throws(WebSocketFailure) -> Event? {
        guard partial == nil else { throw .protocolError("a message inside a message") }
        var new = Partial(isText: isText, bytes: payload)
        if isText { try Self.check(payload, &new.text, isFinal: isFinal) }
        if isFinal { return .message(payload, isText: isText) }
        partial = new
        return nil
    }

    private mutating func go(on payload: ByteBuffer, isFinal: Bool) throws(WebSocketFailure) -> Event? {
        guard var message = partial else { throw .protocolError("a continuation of nothing") }
        partial = nil
        message.fragments += 1
        guard message.fragments <= fragmentsMax else { throw .policy("too many fragments") }
        if message.isText { try Self.check(payload, &message.text, isFinal: isFinal) }
        message.bytes.writeImmutableBuffer(payload)
        if isFinal { return .message(message.bytes, isText: message.isText) }
        partial = message
        return nil
    }

    private static func check(
        _ bytes: ByteBuffer,
        _ text: inout UTF8Check,
        isFinal: Bool
    ) throws(WebSocketFailure) {
        let isSound = bytes.withUnsafeReadableBytes { text.take($0) }
        guard isSound, !isFinal || text.isComplete else { throw .invalidText }
    }

    /// Section 7.4: codes that may stand on the wire, and a reason in UTF-8.
    private static func closeCode(_ payload: ByteBuffer) throws(WebSocketFailure) -> UInt16? {
        guard payload.readableBytes > 0 else { return nil }
        guard let code = payload.getInteger(at: payload.readerIndex, as: UInt16.self) else {
            throw .protocolError("a close code of one byte")
        }
        switch code {
        case 1000...1003, 1007...1014, 3000...4999: break
        default: throw .protocolError("a close code that means nothing")
        }
        var text = UTF8Check()
        let isText = payload.withUnsafeReadableBytes {
            text.take(UnsafeRawBufferPointer(rebasing: $0.dropFirst(2)))
        }
        guard isText, text.isComplete else { throw .invalidText }
        return code
    }
}

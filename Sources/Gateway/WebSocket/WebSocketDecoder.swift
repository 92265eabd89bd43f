import NIOCore
import NIOWebSocket

/// Why a WebSocket is closed (RFC 6455 section 7.4).
package struct WebSocketFailure: Error, Equatable {
    package let code: UInt16
    package let reason: String

    static func protocolError(_ reason: String) -> WebSocketFailure { WebSocketFailure(code: 1002, reason: reason) }
    static let invalidText = WebSocketFailure(code: 1007, reason: "text that is not UTF-8")
    static let tooLarge = WebSocketFailure(code: 1009, reason: "message too large")
    static func policy(_ reason: String) -> WebSocketFailure { WebSocketFailure(code: 1008, reason: reason) }
}

/// NIOWebSocket's frame decoder behind a look at each header: what has no business here is refused before its payload is
/// waited for. NIO leaves these rules to whoever knows which extensions were agreed on; here none ever is.
struct WebSocketDecoder: ByteToMessageDecoder {
    typealias InboundOut = WebSocketFrame

    private let messageBytes: Int
    private var frames: WebSocketFrameDecoder
    /// What the message that is under way has announced so far; nil between messages.
    private var announced: Int?
    private var isHeaderChecked = false

    /// - Parameter messageBytes: of a whole message, however many frames it has.
    init(messageBytes: Int) {
        self.messageBytes = messageBytes
        frames = WebSocketFrameDecoder(maxFrameSize: max(messageBytes, 125))
    }

    mutating func decode(context: ChannelHandlerContext, buffer: inout ByteBuffer) throws -> DecodingState {
        if !isHeaderChecked {
            guard let header = try FrameHeader(buffer) else { return .needMoreData }
            try check(header)
            isHeaderChecked = true
        }
        let state = try frames.decode(context: context, buffer: &buffer)
        if state == .continue { isHeaderChecked = false }
        return state
    }

    mutating func decodeLast(
        context: ChannelHandlerContext,
        buffer: inout ByteBuffer,
        seenEOF: Bool
    ) throws -> DecodingState {
        // Half a frame before the end is nobody's message.
        buffer.clear()
        return .needMoreData
    }

    private mutating func check(_ header: FrameHeader) throws {
        guard !header.isControl else { return }
        switch (header.opcode, announced) {
        case (0, nil): throw WebSocketFailure.protocolError("a continuation of nothing")
        case (1..., .some): throw WebSocketFailure.protocolError("a message inside a message")
        default: break
        }
        let (sum, isOver) = (announced ?? 0).addingReportingOverflow(header.length)
        guard !isOver, sum <= messageBytes else { throw WebSocketFailure.tooLarge }
        announced = header.isFinal ? nil : sum
    }
}

/// The first bytes of a frame (RFC 6455 section 5.2):
///
///      0               1               2
///     +-+-+-+-+-------+-+-------------+-------------------------+
///     |F|R|R|R| opcode|M| length      | 126: 16 bits, 127: 64   |
///     +-+-+-+-+-------+-+-------------+-------------------------+
private struct FrameHeader {
    let isFinal: Bool
    let opcode: UInt8
    let length: Int

    var isControl: Bool { opcode & 8 != 0 }

    /// - Returns: nil while the length is not whole.
    init?(_ buffer: ByteBuffer) throws {
        let start = buffer.readerIndex
        guard let first = buffer.getInteger(at: start, as: UInt8.self) else { return nil }
        isFinal = first & 0x80 != 0
        opcode = first & 0x0F
        guard first & 0x70 == 0 else { throw WebSocketFailure.protocolError("a reserved bit is set") }
        guard opcode <= 2 || (8...10).contains(opcode) else {
            throw WebSocketFailure.protocolError("an unknown opcode")
        }
        guard let second = buffer.getInteger(at: start + 1, as: UInt8.self) else { return nil }
        guard second & 0x80 != 0 else { throw WebSocketFailure.protocolError("a frame is not masked") }
        let short = second & 0x7F
        guard opcode & 8 == 0 || (isFinal && short <= 125) else {
            throw WebSocketFailure.protocolError("a control frame is long or in parts")
        }
        switch short {
        case 126:
            guard let word = buffer.getInteger(at: start + 2, as: UInt16.self) else { return nil }
            length = Int(word)
        case 127:
            guard let long = buffer.getInteger(at: start + 2, as: UInt64.self) else { return nil }
            guard long >> 63 == 0 else { throw WebSocketFailure.protocolError("a length has its top bit set") }
            length = Int(long)
        default:
            length = Int(short)
        }
    }
}

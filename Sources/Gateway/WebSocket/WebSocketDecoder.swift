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

/// Frames of a client. What has no business here is refused by its header, before its payload is waited for; extensions
/// are never agreed on. NIOWebSocket's own decoder takes the mask off byte by byte, in a copy, which was a tenth of
/// what a message cost.
struct WebSocketDecoder: ByteToMessageDecoder {
    typealias InboundOut = WebSocketFrame

    private let allowance: MessageAllowance
    /// What the message that is under way has announced so far; nil between messages.
    private var announced: Int?
    /// The header that is being waited behind.
    private var header: FrameHeader?

    /// - Parameter allowance: of a whole message, however many frames it has.
    init(_ allowance: MessageAllowance) { self.allowance = allowance }

    mutating func decode(context: ChannelHandlerContext, buffer: inout ByteBuffer) throws -> DecodingState {
        if header == nil {
            guard let new = try FrameHeader(buffer) else { return .needMoreData }
            try check(new)
            header = new
        }
        // Checked: a length is at most that of a message.
        guard let header, buffer.readableBytes >= header.byteCount + header.length else { return .needMoreData }
        self.header = nil
        buffer.moveReaderIndex(forwardBy: header.byteCount - FrameHeader.maskBytes)
        guard let mask = buffer.readInteger(endianness: .host, as: UInt32.self) else { return .needMoreData }
        buffer.withUnsafeMutableReadableBytes { Self.unmask($0.prefix(header.length), mask) }
        guard let payload = buffer.readSlice(length: header.length) else { return .needMoreData }
        let opcode = WebSocketOpcode(encodedWebSocketOpcode: header.opcode) ?? .continuation
        context.fireChannelRead(wrapInboundOut(WebSocketFrame(fin: header.isFinal, opcode: opcode, data: payload)))
        return .continue
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

    /// RFC 6455 section 5.3, eight bytes at a time.
    private static func unmask(_ payload: Slice<UnsafeMutableRawBufferPointer>, _ mask: UInt32) {
        let bytes = UnsafeMutableRawBufferPointer(rebasing: payload)
        let wide = UInt64(mask) << 32 | UInt64(mask)
        var index = 0
        while index &+ 8 <= bytes.count {
            let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self) ^ wide
            bytes.storeBytes(of: word, toByteOffset: index, as: UInt64.self)
            index &+= 8
        }
        withUnsafeBytes(of: mask) { key in
            while index < bytes.count {
                bytes[index] ^= key[index & 3]
                index &+= 1
            }
        }
    }

    private mutating func check(_ header: FrameHeader) throws {
        guard !header.isControl else { return }
        switch (header.opcode, announced) {
        case (0, nil): throw WebSocketFailure.protocolError("a continuation of nothing")
        case (1..., .some): throw WebSocketFailure.protocolError("a message inside a message")
        default: break
        }
        let (sum, isOver) = (announced ?? 0).addingReportingOverflow(header.length)
        guard !isOver, sum <= allowance.bytes else { throw WebSocketFailure.tooLarge }
        announced = header.isFinal ? nil : sum
    }
}

/// How long a client's messages may be. It grows when the client has said who it is: what strangers send is held in
/// memory until it is whole. Belongs to the connection's loop.
final class MessageAllowance {
    private(set) var bytes: Int
    private let later: Int

    /// - Parameter anteroom: until `widen`; nil for no less than later.
    init(_ later: Int, anteroom: Int? = nil) {
        bytes = min(anteroom ?? later, later)
        self.later = later
    }

    func widen() { bytes = later }
}

/// The first bytes of a frame (RFC 6455 section 5.2):
///
///      0               1               2
///     +-+-+-+-+-------+-+-------------+-------------------------+
///     |F|R|R|R| opcode|M| length      | 126: 16 bits, 127: 64   |
///     +-+-+-+-+-------+-+-------------+-------------------------+
private struct FrameHeader {
    static let maskBytes = 4

    let isFinal: Bool
    let opcode: UInt8
    let length: Int
    /// Of the header itself, with the mask.
    let byteCount: Int

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
            byteCount = 4 + Self.maskBytes
        case 127:
            guard let long = buffer.getInteger(at: start + 2, as: UInt64.self) else { return nil }
            guard long >> 63 == 0 else { throw WebSocketFailure.protocolError("a length has its top bit set") }
            length = Int(long)
            byteCount = 10 + Self.maskBytes
        default:
            length = Int(short)
            byteCount = 2 + Self.maskBytes
        }
    }
}

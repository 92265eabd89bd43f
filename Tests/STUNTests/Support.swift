import STUN

/// Parses a copy of `bytes` and hands the view to `body`.
func parsing<Result>(_ bytes: [UInt8], _ body: (MessageView) throws -> Result) throws -> Result {
    try bytes.withUnsafeBytes { try body(try MessageView($0)) }
}

/// Why `bytes` are refused, or nil when they are a message.
func refusal(of bytes: [UInt8]) -> MalformedMessage? {
    bytes.withUnsafeBytes { buffer -> MalformedMessage? in
        do throws(MalformedMessage) {
            _ = try MessageView(buffer)
            return nil
        } catch {
            return error
        }
    }
}

/// Builds a message. `body` sees the buffer too, for what the builder itself does not write.
func building(
    _ type: MessageType,
    _ transactionID: TransactionID,
    capacity: Int = 2_048,
    filledWith filler: UInt8 = 0,
    _ body: (inout MessageBuilder, UnsafeMutableRawBufferPointer) -> Void
) -> [UInt8]? {
    var bytes = [UInt8](repeating: filler, count: capacity)
    let length = bytes.withUnsafeMutableBytes { buffer -> Int? in
        var builder = MessageBuilder(type, transactionID, into: buffer)
        body(&builder, buffer)
        return builder.finish()
    }
    return length.map { Array(bytes.prefix($0)) }
}

extension TransactionID {
    init(bytes: [UInt8]) {
        let number = bytes.reduce(into: [UInt64(0), UInt64(0)]) { halves, byte in
            halves[0] = halves[0] << 8 | halves[1] >> 24
            halves[1] = (halves[1] & 0xFF_FFFF) << 8 | UInt64(byte)
        }
        self.init(high: number[0], low: UInt32(number[1]))
    }
}

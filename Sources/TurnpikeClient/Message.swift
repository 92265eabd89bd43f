/// What arrives on a channel.
public struct Message: Sendable, Hashable {
    /// The content; of a text its UTF-8.
    public var bytes: [UInt8]
    /// Whether the peer sent it as a text.
    public var isText: Bool

    /// A message of bytes.
    public init(_ bytes: [UInt8]) {
        self.bytes = bytes
        isText = false
    }

    /// A message of text.
    public init(_ text: String) {
        bytes = Array(text.utf8)
        isText = true
    }

    init(bytes: [UInt8], isText: Bool) {
        self.bytes = bytes
        self.isText = isText
    }

    /// The content as text; bytes that are no UTF-8 are replaced.
    public var text: String { String(decoding: bytes, as: UTF8.self) }
}

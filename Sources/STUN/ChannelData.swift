/// The four bytes before channel data (RFC 8656 section 12.4).
///
///     0         2         4
///     ├─channel─┼─length──┼─ data
package struct ChannelData {
    package let channel: UInt16
    package let length: Int

    package static let headerLength = 4

    /// Whether a datagram that begins with this byte is ChannelData (RFC 8656 section 12, table 3). The wider range is
    /// that of RFC 5766, whose clients may pick channels up to 0x7FFF.
    @inlinable
    package static func isChannel(firstByte: UInt8, wide: Bool) -> Bool {
        wide ? firstByte & 0xC0 == 0x40 : firstByte & 0xF0 == 0x40
    }

    /// - Returns: nil when the datagram is shorter than its header says; a longer one has padding behind the data.
    @inlinable
    package init?(_ datagram: UnsafeRawBufferPointer) {
        guard datagram.count >= Self.headerLength else { return nil }
        channel = datagram.uint16(at: 0)
        length = Int(datagram.uint16(at: 2))
        guard length <= datagram.count - Self.headerLength else { return nil }
    }

    /// Writes the header for `length` bytes of data into the four bytes at `start`.
    @inlinable
    package static func writeHeader(channel: UInt16, length: UInt16, at start: UnsafeMutableRawPointer) {
        start.storeBytes(of: (UInt32(channel) << 16 | UInt32(length)).bigEndian, as: UInt32.self)
    }
}

import CTunnel

/// Lines of standard input, read as they come.
package struct ControlLines {
    private var unread: [UInt8] = []
    /// Whoever started this program has ended it, or died.
    package private(set) var hasEnded = false

    package init() {}

    /// To be called when standard input can be read.
    package mutating func read() -> [String] {
        let count = withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: 1) { buffer -> Int in
            guard let base = buffer.baseAddress else { return 0 }
            let count = Int(tunnel_read(0, base, buffer.count))
            if count > 0 { unread.append(contentsOf: buffer.prefix(count)) }
            return count
        }
        if count <= 0 { hasEnded = true }
        guard let end = unread.lastIndex(of: UInt8(ascii: "\n")) else { return [] }
        let lines = unread[..<end].split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
        unread.removeSubrange(...end)
        return lines
    }
}

import STUN
import TURN

/// What a stream was cut into.
struct CutStream: Equatable {
    var frames: [[UInt8]] = []
    var isDesynchronised = false
    /// Bytes behind the last frame.
    var unread = 0
}

/// Frames by the letter of RFC 8489 section 5 and RFC 8656 section 12.5, from the whole stream at once.
enum SlowFramer {
    static func cut(_ stream: [UInt8], wide: Bool) -> CutStream {
        var result = CutStream()
        var rest = stream
        while !rest.isEmpty {
            var whole = 0
            var padding = 0
            if rest[0] < 0x40 {
                if rest.count >= 4, rest[3] % 4 != 0 { result.isDesynchronised = true }
                if rest.count >= 8, Array(rest[4..<8]) != [0x21, 0x12, 0xA4, 0x42] { result.isDesynchronised = true }
                whole = rest.count >= 4 ? 20 + 256 * Int(rest[2]) + Int(rest[3]) : 20
            } else {
                let last: UInt8 = wide ? 0x7F : 0x4F
                if rest[0] > last || result.frames.isEmpty { result.isDesynchronised = true }
                whole = rest.count >= 4 ? 4 + 256 * Int(rest[2]) + Int(rest[3]) : 4
                while (whole + padding) % 4 != 0 { padding += 1 }
            }
            if result.isDesynchronised || rest.count < whole + padding || rest.count < 4 { break }
            result.frames.append(Array(rest[..<whole]))
            rest.removeFirst(whole + padding)
        }
        result.unread = rest.count
        return result
    }
}

/// A connection's reader: every piece is read into memory that is spoiled once `keep` has been called.
struct StreamReader: ~Copyable {
    private(set) var cut = CutStream()
    private(set) var buffer = StreamBuffer()
    let wide: Bool

    init(wide: Bool = false) { self.wide = wide }

    /// - Parameter framesMax: Frames handled before the rest of the input is put aside.
    mutating func read(_ piece: some Collection<UInt8>, framesMax: Int = .max) {
        guard !cut.isDesynchronised else { return }
        let memory = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(piece.count, 1))
        defer { memory.deallocate() }
        _ = memory.initialize(from: piece)
        var input = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory)[..<piece.count])
        // Frames stay as they were until `keep`, so they are copied only when all have been handed out.
        var frames: [UnsafeRawBufferPointer] = []
        reading: while frames.count < framesMax {
            switch buffer.next(&input, acceptsWideChannels: wide) {
            case .frame(let frame): frames.append(frame)
            case .incomplete: break reading
            case .desynchronised:
                cut.isDesynchronised = true
                break reading
            }
        }
        cut.frames += frames.map { Array($0) }
        buffer.keep(input)
        memory.update(repeating: 0xDD)
        cut.unread = buffer.count
    }

    var allocatedBytes: Int { buffer.allocatedBytes }
}

/// Frames as a client writes them.
enum Frames {
    static func message(type: UInt16 = 0x0001, bodyLength: Int, transaction: UInt8 = 0) -> [UInt8] {
        [
            UInt8(type >> 8), UInt8(type & 0xFF), UInt8(bodyLength >> 8), UInt8(bodyLength & 0xFF), 0x21, 0x12, 0xA4,
            0x42,
        ]
            + [UInt8](repeating: transaction, count: 12) + (0..<bodyLength).map { UInt8(truncatingIfNeeded: $0) }
    }

    static func channelData(_ channel: UInt16 = 0x4000, length: Int, pad: Bool = true) -> [UInt8] {
        let header = [UInt8(channel >> 8), UInt8(channel & 0xFF), UInt8(length >> 8), UInt8(length & 0xFF)]
        let padding = pad ? (4 - length % 4) % 4 : 0
        return header + (0..<length).map { UInt8(truncatingIfNeeded: ~$0) } + [UInt8](repeating: 0, count: padding)
    }

    /// A message and 99 frames more, of both kinds and all paddings.
    static let hundred = (0..<100).map { index in
        index % 3 == 0
            ? message(bodyLength: index % 5 * 4, transaction: UInt8(index)) : channelData(length: index % 23)
    }
}

func outcome(_ bytes: [UInt8], isFirst: Bool = false, wide: Bool = false) -> FrameOutcome {
    bytes.withUnsafeBytes { StreamFramer.next($0, isFirst: isFirst, acceptsWideChannels: wide) }
}

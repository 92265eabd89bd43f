extension JSONScanner {
    /// The string at the index, which is behind its closing quote afterwards. Answers whether it has escapes.
    mutating func string() throws(JSONFault) -> Bool {
        index &+= 1
        var isEscaped = false
        while true {
            skipPlainText()
            switch current {
            case UInt8(ascii: "\""):
                index &+= 1
                return isEscaped
            case UInt8(ascii: "\\"):
                isEscaped = true
                try escape()
            case 0..<0x20:
                throw fault(.syntax)
            case 0x80...:
                try multibyte()
            default:
                index &+= 1
            }
        }
    }

    /// Eight bytes at a time, up to one that is a control character, a quote, a backslash or not ASCII. A borrow
    /// between bytes can only stop it too early, and only in a word that has such a byte.
    @inline(__always)
    private mutating func skipPlainText() {
        let ones: UInt64 = 0x0101_0101_0101_0101
        while index &+ 8 <= count {
            let word = UnsafeRawPointer(base + index).loadUnaligned(as: UInt64.self)
            let control = word &- ones &* 0x20
            let quote = (word ^ (ones &* 0x22)) &- ones
            let backslash = (word ^ (ones &* 0x5C)) &- ones
            if (word | control | quote | backslash) & (ones &* 0x80) != 0 { return }
            index &+= 8
        }
    }

    private mutating func escape() throws(JSONFault) {
        index &+= 1
        switch current {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            index &+= 1
        case UInt8(ascii: "u"):
            switch try codeUnit() {
            case 0xD800..<0xDC00:
                guard current == UInt8(ascii: "\\"), index &+ 1 < count, base[index &+ 1] == UInt8(ascii: "u") else {
                    throw fault(.loneSurrogate)
                }
                index &+= 1
                guard (0xDC00..<0xE000).contains(try codeUnit()) else { throw fault(.loneSurrogate) }
            case 0xDC00..<0xE000: throw fault(.loneSurrogate)
            default: break
            }
        default: throw fault(.syntax)
        }
    }

    /// The four digits behind the `u` at the index.
    private mutating func codeUnit() throws(JSONFault) -> UInt32 {
        index &+= 1
        var unit: UInt32 = 0
        for _ in 0..<4 {
            guard let digit = Self.hexadecimal(current) else { throw fault(.syntax) }
            unit = unit << 4 | digit
            index &+= 1
        }
        return unit
    }

    /// One scalar of two to four bytes, by the table of well-formed sequences (RFC 3629 section 4).
    private mutating func multibyte() throws(JSONFault) {
        let first = base[index]
        let (length, second): (Int, ClosedRange<UInt8>) =
            switch first {
            case 0xC2...0xDF: (2, 0x80...0xBF)
            case 0xE0: (3, 0xA0...0xBF)
            case 0xED: (3, 0x80...0x9F)
            case 0xE1...0xEF: (3, 0x80...0xBF)
            case 0xF0: (4, 0x90...0xBF)
            case 0xF1...0xF3: (4, 0x80...0xBF)
            case 0xF4: (4, 0x80...0x8F)
            default: (0, 0x80...0xBF)
            }
        guard length > 0, index &+ length <= count, second.contains(base[index &+ 1]) else { throw fault(.encoding) }
        for offset in 2..<max(2, length) where base[index &+ offset] & 0xC0 != 0x80 { throw fault(.encoding) }
        index &+= length
    }

    static func hexadecimal(_ byte: UInt8) -> UInt32? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte &- UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt32(byte &- UInt8(ascii: "a") &+ 10)
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt32(byte &- UInt8(ascii: "A") &+ 10)
        default: nil
        }
    }

    /// What tells most keys apart without comparing them: FNV-1a over what the key says. It begins at a number of this
    /// process alone, or a thousand keys that were chosen to collide would all have to be compared.
    func hash(_ start: Int, _ end: Int, _ isEscaped: Bool) -> UInt64 {
        var hash = Self.hashSeed
        if isEscaped {
            for byte in decoded(start, end) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        } else {
            for offset in start..<end { hash = (hash ^ UInt64(base[offset])) &* 0x100_0000_01B3 }
        }
        return hash
    }

    private static let hashSeed = UInt64.random(in: .min ... .max)

    func isEqual(_ one: JSONKey, _ other: JSONKey) -> Bool {
        if one.isEscaped || other.isEscaped {
            return decoded(one.start, one.end) == decoded(other.start, other.end)
        }
        guard one.end &- one.start == other.end &- other.start else { return false }
        return (0..<(one.end &- one.start)).allSatisfy { base[one.start &+ $0] == base[other.start &+ $0] }
    }

    /// Whether a key says `text`, which is ASCII.
    func says(_ key: JSONKey, _ text: StaticString) -> Bool {
        if key.isEscaped {
            let name = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
            return decoded(key.start, key.end).elementsEqual(name)
        }
        guard key.end &- key.start == text.utf8CodeUnitCount else { return false }
        for offset in 0..<text.utf8CodeUnitCount where base[key.start &+ offset] != text.utf8Start[offset] {
            return false
        }
        return true
    }

    /// What the checked string between two quotes says.
    func decoded(_ start: Int, _ end: Int) -> [UInt8] {
        JSONString.decoded(UnsafeBufferPointer(start: base + start, count: end &- start))
    }
}

enum JSONString {
    /// What a string says that a scanner has checked; without its quotes.
    static func decoded(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        var index = 0
        while index < text.count {
            let byte = text[index]
            index &+= 1
            guard byte == UInt8(ascii: "\\"), index < text.count else {
                bytes.append(byte)
                continue
            }
            let letter = text[index]
            index &+= 1
            switch letter {
            case UInt8(ascii: "b"): bytes.append(0x08)
            case UInt8(ascii: "f"): bytes.append(0x0C)
            case UInt8(ascii: "n"): bytes.append(0x0A)
            case UInt8(ascii: "r"): bytes.append(0x0D)
            case UInt8(ascii: "t"): bytes.append(0x09)
            case UInt8(ascii: "u"):
                var value = codeUnit(text, &index)
                if (0xD800..<0xDC00).contains(value) {
                    index &+= 2
                    value = 0x10000 &+ (value &- 0xD800) << 10 &+ (codeUnit(text, &index) &- 0xDC00)
                }
                if let scalar = Unicode.Scalar(value) { bytes.append(contentsOf: UTF8.encode(scalar) ?? .init()) }
            default: bytes.append(letter)
            }
        }
        return bytes
    }

    private static func codeUnit(_ text: UnsafeBufferPointer<UInt8>, _ index: inout Int) -> UInt32 {
        var unit: UInt32 = 0
        for _ in 0..<4 where index < text.count {
            unit = unit << 4 | (JSONScanner.hexadecimal(text[index]) ?? 0)
            index &+= 1
        }
        return unit
    }
}

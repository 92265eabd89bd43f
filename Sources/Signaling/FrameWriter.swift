/// Writes one message of the server: a JSON object whose first member is its type.
struct FrameWriter {
    private var bytes: [UInt8] = []

    init(_ type: StaticString, reserving capacity: Int) {
        bytes.reserveCapacity(capacity)
        append("{\"type\":\"")
        append(type)
        bytes.append(UInt8(ascii: "\""))
    }

    /// An object without a type, for a payload; its first member is a text.
    init(object key: StaticString, _ text: String) {
        bytes.append(UInt8(ascii: "{"))
        member(key, text)
    }

    consuming func finish() -> [UInt8] {
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }

    /// A value that is JSON already.
    mutating func member(_ key: StaticString, raw: UnsafeBufferPointer<UInt8>) {
        self.key(key)
        bytes.append(contentsOf: raw)
    }

    mutating func member(_ key: StaticString, raw: [UInt8]) {
        self.key(key)
        bytes.append(contentsOf: raw)
    }

    mutating func member(_ key: StaticString, _ text: String) {
        self.key(key)
        Self.append(text, to: &bytes)
    }

    mutating func member(_ key: StaticString, name: StaticString) {
        self.key(key)
        bytes.append(UInt8(ascii: "\""))
        append(name)
        bytes.append(UInt8(ascii: "\""))
    }

    mutating func member(_ key: StaticString, _ number: Int64) {
        self.key(key)
        append(number)
    }

    mutating func member(_ key: StaticString, _ truth: Bool) {
        self.key(key)
        append(truth ? "true" : "false")
    }

    /// The echo of a request's `id`, where it had one.
    mutating func echo(_ id: UnsafeBufferPointer<UInt8>) {
        if id.count > 0 { member("id", raw: id) }
    }

    mutating func echo(_ id: [UInt8]) {
        if id.count > 0 { member("id", raw: id) }
    }

    /// A list whose elements are objects; `next` writes one at a time through `element`.
    mutating func list<Elements: Sequence>(
        _ key: StaticString,
        _ elements: Elements,
        _ write: (inout FrameWriter, Elements.Element) -> Void
    ) {
        self.key(key)
        bytes.append(UInt8(ascii: "["))
        var isFirst = true
        for element in elements {
            if !isFirst { bytes.append(UInt8(ascii: ",")) }
            isFirst = false
            write(&self, element)
        }
        bytes.append(UInt8(ascii: "]"))
    }

    mutating func object(_ key: StaticString, _ write: (inout FrameWriter) -> Void) {
        self.key(key)
        element(write)
    }

    /// An object that stands in a list. Its first member needs no comma.
    mutating func element(_ write: (inout FrameWriter) -> Void) {
        bytes.append(UInt8(ascii: "{"))
        write(&self)
        bytes.append(UInt8(ascii: "}"))
    }

    mutating func element(raw: [UInt8]) { bytes.append(contentsOf: raw) }

    mutating func element(_ text: String) { Self.append(text, to: &bytes) }

    /// The text as a JSON string, with its quotes.
    static func encoded(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count &+ 2)
        append(text, to: &bytes)
        return bytes
    }

    private mutating func key(_ key: StaticString) {
        if bytes.last != UInt8(ascii: "{") { bytes.append(UInt8(ascii: ",")) }
        bytes.append(UInt8(ascii: "\""))
        append(key)
        bytes.append(UInt8(ascii: "\""))
        bytes.append(UInt8(ascii: ":"))
    }

    private mutating func append(_ text: StaticString) {
        bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    private mutating func append(_ number: Int64) {
        var digits = InlineArray<20, UInt8>(repeating: 0)
        var rest = number.magnitude
        var count = 0
        repeat {
            digits[count] = UInt8(truncatingIfNeeded: rest % 10) &+ UInt8(ascii: "0")
            rest /= 10
            count &+= 1
        } while rest > 0
        if number < 0 { bytes.append(UInt8(ascii: "-")) }
        while count > 0 {
            count &-= 1
            bytes.append(digits[count])
        }
    }

    private static func append(_ text: String, to bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0..<0x20:
                bytes.append(contentsOf: "\\u00".utf8)
                bytes.append(UInt8(ascii: "0") &+ byte >> 4)
                bytes.append("0123456789abcdef".utf8.dropFirst(Int(byte & 0xF)).first ?? UInt8(ascii: "0"))
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}

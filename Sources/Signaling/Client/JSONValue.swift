/// A JSON value as text that was checked: it can be sent on byte for byte.
package struct JSONText: Sendable, Hashable, CustomStringConvertible {
    package let bytes: [UInt8]

    package static let emptyObject = JSONText(unchecked: Array("{}".utf8))

    /// - Throws: for what the server would refuse.
    package init(_ text: String) throws(JSONFault) { try self.init(Array(text.utf8)) }

    /// - Throws: for what the server would refuse.
    package init(_ bytes: [UInt8]) throws(JSONFault) {
        if let fault = bytes.withUnsafeBufferPointer(Self.fault) { throw fault }
        self.bytes = bytes
    }

    package init(_ value: JSONValue) {
        var bytes: [UInt8] = []
        value.write(to: &bytes)
        self.bytes = bytes
    }

    init(unchecked bytes: [UInt8]) { self.bytes = bytes }

    package var value: JSONValue {
        bytes.withUnsafeBufferPointer { text in
            var reader = JSONReader(text)
            return reader.value(depth: 0)
        }
    }

    package var description: String { String(decoding: bytes, as: UTF8.self) }

    var isObject: Bool {
        bytes.first { $0 != 0x20 && $0 != 0x0A && $0 != 0x0D && $0 != 0x09 } == UInt8(ascii: "{")
    }

    private static func fault(_ text: UnsafeBufferPointer<UInt8>) -> JSONFault? {
        guard let base = text.baseAddress else { return JSONFault(reason: .syntax, offset: 0) }
        var scanner = JSONScanner(base: base, count: text.count, limits: .inMessages)
        do throws(JSONFault) {
            scanner.skipBlanks()
            // It is to stand in a message.
            _ = try scanner.value(depth: 2)
            scanner.skipBlanks()
            return scanner.index == text.count ? nil : scanner.fault(.trailingBytes)
        } catch {
            return error
        }
    }
}

/// A JSON value (RFC 8259).
package enum JSONValue: Sendable, Hashable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    /// The member of an object; nil for anything else.
    package subscript(key: String) -> JSONValue? {
        if case .object(let members) = self { return members[key] }
        return nil
    }

    package var string: String? {
        if case .string(let text) = self { return text }
        return nil
    }

    package var number: Double? {
        if case .number(let number) = self { return number }
        return nil
    }

    package var bool: Bool? {
        if case .bool(let truth) = self { return truth }
        return nil
    }

    package var array: [JSONValue]? {
        if case .array(let values) = self { return values }
        return nil
    }

    package var object: [String: JSONValue]? {
        if case .object(let members) = self { return members }
        return nil
    }

    /// A whole number from 0 on.
    package var wholeNumber: UInt64? { number.flatMap { UInt64(exactly: $0) } }

    /// Members in the order of their names, so that one value has one text. A number that JSON has not is null.
    func write(to bytes: inout [UInt8]) {
        switch self {
        case .null: bytes += "null".utf8
        case .bool(let truth): bytes += (truth ? "true" : "false").utf8
        case .number(let number):
            if let whole = Int64(exactly: number) {
                bytes += "\(whole)".utf8
            } else {
                bytes += (number.isFinite ? "\(number)" : "null").utf8
            }
        case .string(let text): bytes += FrameWriter.encoded(text)
        case .array(let values):
            bytes.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                value.write(to: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .object(let members):
            bytes.append(UInt8(ascii: "{"))
            for (index, member) in members.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                bytes += FrameWriter.encoded(member.key)
                bytes.append(UInt8(ascii: ":"))
                member.value.write(to: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }
}

/// Reads a text that a scanner has checked. Of any other text it makes something, in bounds of time and depth.
struct JSONReader {
    private let text: UnsafeBufferPointer<UInt8>
    private var index = 0

    init(_ text: UnsafeBufferPointer<UInt8>) { self.text = text }

    mutating func value(depth: Int) -> JSONValue {
        skipBlanks()
        switch current {
        case UInt8(ascii: "\""): return .string(string())
        case UInt8(ascii: "{"): return object(depth: depth)
        case UInt8(ascii: "["): return array(depth: depth)
        case UInt8(ascii: "t"):
            index &+= 4
            return .bool(true)
        case UInt8(ascii: "f"):
            index &+= 5
            return .bool(false)
        case UInt8(ascii: "n"):
            index &+= 4
            return .null
        default: return number()
        }
    }

    private var current: UInt8 { index < text.count ? text[index] : 0 }

    private mutating func skipBlanks() {
        while current == 0x20 || current == 0x0A || current == 0x0D || current == 0x09 { index &+= 1 }
    }

    /// The character is there, and the index behind it and the blanks that follow.
    private mutating func take(_ character: UInt8) -> Bool {
        skipBlanks()
        guard current == character else { return false }
        index &+= 1
        skipBlanks()
        return true
    }

    private mutating func object(depth: Int) -> JSONValue {
        guard depth <= SignalingClientLimits.jsonDepthMax else { return giveUp() }
        var members: [String: JSONValue] = [:]
        index &+= 1
        skipBlanks()
        while current == UInt8(ascii: "\"") {
            let key = string()
            guard take(UInt8(ascii: ":")) else { break }
            members[key] = value(depth: depth &+ 1)
            guard take(UInt8(ascii: ",")) else { break }
        }
        skipBlanks()
        index &+= 1
        return .object(members)
    }

    private mutating func array(depth: Int) -> JSONValue {
        guard depth <= SignalingClientLimits.jsonDepthMax else { return giveUp() }
        var values: [JSONValue] = []
        index &+= 1
        skipBlanks()
        while index < text.count, current != UInt8(ascii: "]") {
            values.append(value(depth: depth &+ 1))
            guard take(UInt8(ascii: ",")) else { break }
        }
        skipBlanks()
        index &+= 1
        return .array(values)
    }

    private mutating func string() -> String {
        index &+= 1
        let start = min(index, text.count)
        var isEscaped = false
        while index < text.count, text[index] != UInt8(ascii: "\"") {
            if text[index] == UInt8(ascii: "\\") {
                isEscaped = true
                index &+= 1
            }
            index &+= 1
        }
        let contents = UnsafeBufferPointer(rebasing: text[start..<min(index, text.count)])
        index &+= 1
        if isEscaped { return String(decoding: JSONString.decoded(contents), as: UTF8.self) }
        return String(decoding: contents, as: UTF8.self)
    }

    private mutating func number() -> JSONValue {
        let start = min(index, text.count)
        while index < text.count, Self.isInNumber(text[index]) { index &+= 1 }
        if index == start { return giveUp() }
        let digits = String(decoding: UnsafeBufferPointer(rebasing: text[start..<index]), as: UTF8.self)
        return Double(digits).map(JSONValue.number) ?? .null
    }

    private mutating func giveUp() -> JSONValue {
        index = text.count
        return .null
    }

    private static func isInNumber(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."),
            UInt8(ascii: "e"), UInt8(ascii: "E"):
            true
        default: false
        }
    }
}

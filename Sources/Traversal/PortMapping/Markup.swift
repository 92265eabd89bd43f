/// The elements of a device's XML, one after the other. It reads what routers write, right or wrong, and holds nothing:
/// no tree, no entities of a document's own, no depth.
struct Markup {
    enum Token: Equatable {
        /// Without the name space's prefix.
        case open(String)
        case close(String)
        case text(String)
    }

    private var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    mutating func next() -> Token? {
        while let first = rest.first {
            guard first == UInt8(ascii: "<") else {
                let end = rest.firstIndex(of: UInt8(ascii: "<")) ?? rest.endIndex
                let text = rest[rest.startIndex..<end]
                rest = rest[end...]
                if let text = Self.text(text) { return .text(text) }
                continue
            }
            if rest.starts(with: Array("<!--".utf8)) {
                rest = after(Array("-->".utf8))
                continue
            }
            let inside = rest.dropFirst()
            guard let end = inside.firstIndex(of: UInt8(ascii: ">")) else {
                rest = rest[rest.endIndex...]
                return nil
            }
            let tag = inside[..<end]
            rest = rest[(end + 1)...]
            if let token = Self.token(tag) { return token }
        }
        return nil
    }

    /// The text of the first element of that name, or nil.
    static func value(_ name: String, in bytes: [UInt8]) -> String? {
        var markup = Markup(bytes)
        var isInside = false
        while let token = markup.next() {
            switch token {
            case .open(name): isInside = true
            case .text(let text) where isInside: return text
            case .close(name) where isInside: return ""
            default: break
            }
        }
        return nil
    }

    private func after(_ mark: [UInt8]) -> ArraySlice<UInt8> {
        var index = rest.startIndex
        while index + mark.count <= rest.endIndex {
            if rest[index..<(index + mark.count)] == mark[...] { return rest[(index + mark.count)...] }
            index += 1
        }
        return rest[rest.endIndex...]
    }

    private static func token(_ tag: ArraySlice<UInt8>) -> Token? {
        let isClose = tag.first == UInt8(ascii: "/")
        let name = tag.drop { $0 == UInt8(ascii: "/") }.prefix { $0 > 0x20 && $0 != UInt8(ascii: "/") }
        let local = name.lastIndex(of: UInt8(ascii: ":")).map { name[($0 + 1)...] } ?? name
        // Declarations and instructions.
        guard let first = local.first, first != UInt8(ascii: "?"), first != UInt8(ascii: "!"),
            local.count <= PortMappingLimits.elementNameBytes
        else { return nil }
        let text = String(decoding: local, as: UTF8.self)
        return isClose ? .close(text) : .open(text)
    }

    private static func text(_ bytes: ArraySlice<UInt8>) -> String? {
        let isBlank = { (byte: UInt8) in byte <= 0x20 }
        let trimmed = bytes.drop(while: isBlank).reversed().drop(while: isBlank).reversed()
        guard !trimmed.isEmpty, trimmed.count <= PortMappingLimits.elementBytes else { return nil }
        let text = String(decoding: Array(trimmed), as: UTF8.self)
        guard text.utf8.contains(UInt8(ascii: "&")) else { return text }
        var plain = ""
        var pieces = text.split(separator: "&", omittingEmptySubsequences: false)
        plain += pieces.removeFirst()
        for piece in pieces {
            let entity = entities.first { piece.hasPrefix($0.name) }
            plain += entity.map { $0.stands + piece.dropFirst($0.name.count) } ?? "&" + piece
        }
        return plain
    }

    private static let entities = [
        (name: "amp;", stands: "&"), (name: "lt;", stands: "<"), (name: "gt;", stands: ">"),
        (name: "quot;", stands: "\""), (name: "apos;", stands: "'"),
    ]
}

import Foundation
import Yams

/// A configuration file, taken apart into keys and raw values. Nothing in it is trusted: its size, its nesting and its
/// aliases are bounded before or by the YAML parser.
struct ConfigurationFile {
    struct Entry {
        let key: SettingsKey
        let raw: RawValue
        let place: Place
    }

    /// As it is named in messages.
    let name: String
    private(set) var entries: [Entry] = []
    private(set) var diagnostics: [Diagnostic] = []

    /// A configuration is a few KiB. A file beyond this is a mistake in the path.
    static let maxBytes = 1 << 20
    /// Aliases repeat a node, and aliases of aliases repeat it exponentially. A few are harmless.
    static let maxAliases = 8
    /// Past this many, a list of mistakes says that it is the wrong file.
    static let maxDiagnostics = 50

    /// Reads the file at `path`; whatever is wrong is in `diagnostics`.
    init(path: String) {
        name = path
        do {
            let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
            defer { try? handle.close() }
            var bytes = Data()
            while bytes.count <= Self.maxBytes, let more = try handle.read(upToCount: 65_536), !more.isEmpty {
                bytes += more
            }
            parse(Array(bytes))
        } catch {
            refuse("cannot be read: \(Self.reason(error)); correct the path given with --config or TURNPIKE_CONFIG")
        }
    }

    /// - Parameter bytes: the content of a file that is called `name`.
    init(name: String, bytes: [UInt8]) {
        self.name = name
        parse(bytes)
    }

    private mutating func parse(_ bytes: [UInt8]) {
        guard bytes.count <= Self.maxBytes else {
            return refuse("is larger than \(Self.maxBytes) bytes; a configuration is not, so check the path")
        }
        guard let text = checkedText(bytes) else { return }
        do {
            // The basic resolver leaves every scalar the text it is. The encoding is named because the default one is
            // read from the environment, with a message on standard output.
            let parser = try Parser(yaml: text, resolver: .basic, encoding: .utf8)
            guard let root = try parser.singleRoot() else { return }
            if case .scalar = root, case .null = RawValue(root).shape { return }
            guard case .mapping(let mapping) = root else {
                return refuse("does not hold keys and values; write lines such as `realm: example.org`", root.mark)
            }
            walk(mapping, section: nil)
        } catch let error as YamlError {
            refuse(error, in: text)
        } catch {
            refuse("is no YAML: \(error)")
        }
    }

    private mutating func walk(_ mapping: Node.Mapping, section: String?) {
        for (keyNode, value) in mapping {
            guard diagnostics.count < Self.maxDiagnostics else {
                if diagnostics.count == Self.maxDiagnostics {
                    refuse("more than \(Self.maxDiagnostics) mistakes; is this a Turnpike configuration?")
                }
                return
            }
            guard case .scalar(let key) = keyNode else {
                refuse("a key must be one word, such as `realm`", keyNode.mark)
                continue
            }
            let path = section.map { "\($0).\(key.string)" } ?? key.string
            if key.string.contains("."), let known = KeyTable.byPath[path] {
                let parts = known.path.split(separator: ".", maxSplits: 1)
                refuse(
                    "\(path): is written on two lines in a file: `\(parts[0]):`, and `\(parts[1]):` under it",
                    key.mark
                )
            } else if let known = KeyTable.byPath[path] {
                let raw = RawValue(value)
                entries.append(Entry(key: known, raw: raw, place: place(value.mark ?? key.mark)))
            } else if section == nil, KeyTable.sections.contains(path) {
                enter(value, section: path, key.mark)
            } else {
                refuse(KeyTable.problem(unknown: path), key.mark)
            }
        }
    }

    private mutating func enter(_ value: Node, section: String, _ mark: Mark?) {
        if case .mapping(let members) = value {
            walk(members, section: section)
        } else if case .null = RawValue(value).shape {
            // A section all of whose lines are comments.
            return
        } else {
            refuse(KeyTable.problem(unknown: section), value.mark ?? mark)
        }
    }

    private func place(_ mark: Mark?) -> Place {
        .file(name: name, line: mark?.line, column: mark?.column)
    }

    private mutating func refuse(_ message: String, _ mark: Mark? = nil) {
        refuse(message, line: mark?.line, column: mark?.column)
    }

    private mutating func refuse(_ message: String, line: Int?, column: Int?) {
        let place = Place.file(name: name, line: line, column: column)
        diagnostics.append(Diagnostic(severity: .error, message: message, place: place))
    }

    private mutating func refuse(_ error: YamlError, in text: String) {
        switch error {
        case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            let during = context.map { " \($0.text)" } ?? ""
            refuse("is no YAML:\(during): \(problem)".replacing("::", with: ":"), mark)
        case .duplicatedKeysInMapping(let names, let context):
            let name = names.first ?? ""
            let second = Self.secondLine(of: name, after: context.mark, in: text)
            let first = second == nil ? "" : " after line \(context.mark.line)"
            let message = "\(shown(name)) is written a second time\(first); remove one"
            refuse(message, line: second ?? context.mark.line, column: context.mark.column)
        case .memory:
            refuse("is nested too deeply; a configuration has two levels")
        case .reader(let problem, _, _, _):
            refuse("is no YAML: \(problem)")
        default:
            refuse("is no YAML: \(shown(String(describing: error)))")
        }
    }

    /// The parser names the first of two equal keys. In block style the second one is the next line that has the same
    /// word at the same column; nil where it is not found so.
    private static func secondLine(of name: String, after first: Mark, in text: String) -> Int? {
        let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map(Substring.init)
        guard first.line >= 1, first.line < lines.count else { return nil }
        for (index, line) in lines[first.line...].enumerated() {
            guard line.prefix(while: { $0 == " " }).count == first.column - 1 else { continue }
            let rest = String(line.drop { $0 == " " })
            for spelling in [name, "\"\(name)\"", "'\(name)'"] where rest.hasPrefix(spelling) {
                if rest.dropFirst(spelling.count).drop(while: { $0 == " " }).hasPrefix(":") {
                    return first.line + index + 1
                }
            }
        }
        return nil
    }

    private static func reason(_ error: any Error) -> String {
        let error = error as NSError
        if let underlying = error.userInfo[NSUnderlyingErrorKey] as? NSError, underlying.domain == NSPOSIXErrorDomain {
            let reason = String(cString: strerror(Int32(truncatingIfNeeded: underlying.code)))
            return reason.prefix(1).lowercased() + reason.dropFirst()
        }
        return error.localizedDescription
    }
}

extension ConfigurationFile {
    /// The file as text that is safe to hand to the parser, or nil after saying what is wrong with it.
    fileprivate mutating func checkedText(_ bytes: [UInt8]) -> String? {
        var bytes = bytes[...]
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { bytes = bytes.dropFirst(3) }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            let sound = String(decoding: bytes, as: UTF8.self).unicodeScalars.prefix { $0 != "\u{FFFD}" }
            refuse("is not UTF-8; save it as UTF-8", behind: sound)
            return nil
        }
        let scalars = text.unicodeScalars
        for index in scalars.indices where !Self.isAcceptable(scalars, at: index) {
            let code = String(scalars[index].value, radix: 16, uppercase: true)
            refuse("has the control character U+\(code), which has no place here; remove it", behind: scalars[..<index])
            return nil
        }
        let bare = Self.withoutCommentLines(text)
        guard Self.aliasCount(bare) <= Self.maxAliases else {
            refuse("has more than \(Self.maxAliases) YAML aliases (*name); write the values out")
            return nil
        }
        return bare
    }

    /// YAML 1.2 section 5.1, c-printable, without the byte order mark that may stand only at the start, and without the
    /// line breaks of YAML 1.1 that editors do not show as such: lines here are what everybody counts as lines.
    private static func isAcceptable(_ scalars: String.UnicodeScalarView, at index: String.Index) -> Bool {
        switch scalars[index].value {
        case 0x0D:
            let next = scalars.index(after: index)
            return next < scalars.endIndex && scalars[next] == "\n"
        case 0x2028, 0x2029: return false
        case 0x09, 0x0A, 0x20...0x7E, 0xA0...0xD7FF, 0xE000...0xFEFE, 0xFF00...0xFFFD, 0x10000...0x10FFFF: return true
        default: return false
        }
    }

    /// Lines that are comments become empty, so that what is counted below is what the parser sees, whatever quotes and
    /// asterisks the comments hold. Lines keep their numbers.
    private static func withoutCommentLines(_ text: String) -> String {
        let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { line in
            line.first { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\t") } == UInt8(ascii: "#")
                ? "" : Substring(line)
        }
        return lines.joined(separator: "\n")
    }

    /// No fewer than the aliases the parser finds: every asterisk that could begin one.
    private static func aliasCount(_ text: String) -> Int {
        var count = 0
        var previous = UInt8(ascii: "\n")
        var isCandidate = false
        for byte in text.utf8 {
            if isCandidate, byte > UInt8(ascii: " ") { count += 1 }
            isCandidate = byte == UInt8(ascii: "*") && previous < 0x80 && !isAlphanumeric(previous)
            previous = byte
        }
        return count
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
    }

    /// Says that something is wrong right behind `scalars`, which begin the file.
    private mutating func refuse(_ message: String, behind scalars: some BidirectionalCollection<Unicode.Scalar>) {
        let line = scalars.count { $0 == "\n" } + 1
        let column = scalars.reversed().prefix { $0 != "\n" }.count + 1
        refuse(message, line: line, column: column)
    }
}

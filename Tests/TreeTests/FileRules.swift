import Foundation

/// What starts with `#!` is run by its name, and what is marked to be run says by what.
enum ScriptRule {
    static func findings(path: String, start: String, isExecutable: Bool) -> [Finding] {
        let isScript = start.hasPrefix("#!")
        if isScript == isExecutable { return [] }
        let problem =
            isScript ? "is a script without the run bit: chmod +x" : "has the run bit and is no script: chmod -x"
        return [Finding(path: path, line: 1, problem: problem)]
    }
}

/// A path that exists on the machine of whoever wrote the file, and nowhere else.
enum MachinePathRule {
    static func findings(path: String, text: String) -> [Finding] {
        text.lines.enumerated().compactMap { number, line in
            guard let match = line.firstMatch(of: pattern), !examples.contains(String(match.1)) else { return nil }
            return Finding(path: path, line: number + 1, problem: "names a developer's machine: \(match.1)")
        }
    }

    /// Nobody's home, which the tests of path rules speak of.
    private static let examples: Set = ["/home/ada"]

    // Regex is not Sendable; this one is never changed, and matching does not change it.
    nonisolated(unsafe) private static let pattern =
        /(?:^|[\s"'`=\(:,])(\/(?:home|Users|root|work|mnt)\/[\w.\-]+)/
}

/// What `.editorconfig` asks of every text file.
enum WhitespaceRule {
    static func findings(path: String, text: String) -> [Finding] {
        var findings = text.lines.enumerated().compactMap { number, line -> Finding? in
            guard let last = line.last, last == " " || last == "\t" else { return nil }
            return Finding(path: path, line: number + 1, problem: "ends in blanks")
        }
        if text.utf8.contains(UInt8(ascii: "\r")) {
            findings.append(Finding(path: path, line: 1, problem: "has carriage returns"))
        }
        if !text.isEmpty, !text.hasSuffix("\n") || text.hasSuffix("\n\n") {
            findings.append(Finding(path: path, line: text.lines.count, problem: "does not end in exactly one newline"))
        }
        return findings
    }
}

/// 120 columns, also where the formatter does not look: in comments, in long string literals, and in Python.
enum LineLengthRule {
    static let columnsMax = 120

    static func findings(path: String, text: String) -> [Finding] {
        text.lines.enumerated().filter { $1.count > columnsMax }.map { number, line in
            Finding(path: path, line: number + 1, problem: "has \(line.count) columns, of \(columnsMax) at most")
        }
    }
}

/// The relative links of a Markdown page lead to files of the tree.
enum LinkRule {
    static func findings(path: String, text: String, exists: (String) -> Bool) -> [Finding] {
        let folder = path.split(separator: "/").dropLast().joined(separator: "/")
        return text.lines.enumerated().flatMap { number, line in
            targets(in: line).filter { !exists(resolve($0, from: folder)) }.map {
                Finding(path: path, line: number + 1, problem: "links to \($0), which is not there")
            }
        }
    }

    private static func targets(in line: Substring) -> [String] {
        line.split(separator: "](").dropFirst().compactMap { rest in
            let target = rest.prefix { $0 != ")" && $0 != "#" && $0 != " " }
            return target.isEmpty || target.contains(":") ? nil : String(target)
        }
    }

    private static func resolve(_ target: String, from folder: String) -> String {
        var parts = folder.split(separator: "/").map(String.init)
        for part in target.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(String(part)) }
        }
        return parts.joined(separator: "/")
    }
}

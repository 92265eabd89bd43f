import Foundation

/// The source tree these tests stand in.
enum Tree {
    static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// Every file that belongs to the project, without what builds and tools leave behind.
    static let files: [TreeFile] = walk(root, path: "").sorted { $0.path < $1.path }

    static func files(under folder: String, endingIn suffixes: String...) -> [TreeFile] {
        files.filter { file in
            file.path.hasPrefix(folder) && suffixes.contains { file.path.hasSuffix($0) }
        }
    }

    private static func walk(_ folder: URL, path: String) -> [TreeFile] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.filter { !isForeign($0) }.flatMap { name -> [TreeFile] in
            let url = folder.appending(path: name)
            let values = try? url.resourceValues(forKeys: [.isDirectoryKey, .isRegularFileKey])
            if values?.isDirectory == true { return walk(url, path: path + name + "/") }
            return values?.isRegularFile == true ? [TreeFile(path: path + name, url: url)] : []
        }
    }

    /// What `.gitignore` keeps out, and git's own files.
    private static func isForeign(_ name: String) -> Bool {
        let names: Set = [".git", "Package.resolved", "__pycache__", ".pytest_cache", "build", ".swiftpm", ".vscode"]
        return names.contains(name) || name.hasPrefix(".build") || name.hasPrefix(".venv") || name.contains(".sqlite3")
    }
}

struct TreeFile: Sendable {
    /// Relative to the root of the tree.
    let path: String
    let url: URL

    /// Nil for what is not text.
    var text: String? { try? String(contentsOf: url, encoding: .utf8) }

    var isExecutable: Bool { FileManager.default.isExecutableFile(atPath: url.path) }
}

/// A place in a file, and what is wrong there.
struct Finding: Hashable, CustomStringConvertible {
    let path: String
    let line: Int
    let problem: String

    var description: String { "\(path):\(line): \(problem)" }
}

extension [Finding] {
    /// For the message of an expectation: one finding a line.
    var listing: String { "\n" + map(\.description).joined(separator: "\n") }
}

extension String {
    var lines: [Substring] { split(separator: "\n", omittingEmptySubsequences: false) }

    func lineNumber(of index: Index) -> Int { self[..<index].count { $0 == "\n" } + 1 }
}

import Foundation

@testable import Settings

/// A directory that is gone when the last reference to it is.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "turnpike-settings-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Writes a file, and returns its path.
    func write(_ content: String, to name: String = "turnpike.yml") throws -> String {
        let file = path + "/" + name
        try Data(content.utf8).write(to: URL(fileURLWithPath: file))
        return file
    }
}

/// Loads `yaml` from a file with nothing else around it, as root. Messages name the file `turnpike.yml`.
func load(
    _ yaml: String? = nil,
    environment: [String: String] = [:],
    set overrides: [String] = [],
    dataDirectory: String? = nil,
    home: String? = "/home/ada",
    isRoot: Bool = true
) throws -> SettingsOutcome {
    let directory = try TemporaryDirectory()
    let inputs = SettingsInputs(
        file: try yaml.map { try directory.write($0) },
        environment: environment,
        overrides: overrides,
        dataDirectory: dataDirectory,
        homeDirectory: home,
        isRoot: isRoot,
        workingDirectory: "/srv/here",
        defaultFile: directory.path + "/none.yml"
    )
    var outcome = SettingsLoader(inputs: inputs).load()
    for index in outcome.diagnostics.indices {
        if case .file(_, let line, let column) = outcome.diagnostics[index].place {
            outcome.diagnostics[index].place = .file(name: "turnpike.yml", line: line, column: column)
        }
    }
    return outcome
}

/// All diagnostics of `load(yaml)`, one a line.
func complaints(_ yaml: String) throws -> [String] {
    try load(yaml).diagnostics.map(\.description)
}

extension SettingsOutcome {
    func origin(of key: String) -> String? { origins.first { $0.key == key }?.origin }
}

import Foundation

/// Everything the configuration is made from, so that loading it depends on nothing else but the file.
package struct SettingsInputs: Sendable {
    /// `--config`.
    package var file: String?
    package var environment: [String: String]
    /// The arguments of `--set`: KEY=VALUE.
    package var overrides: [String]
    /// `--data-dir`.
    package var dataDirectory: String?
    package var homeDirectory: String?
    /// Whether the effective user is root.
    package var isRoot: Bool
    /// What relative paths of flags and variables are relative to.
    package var workingDirectory: String
    /// Read if it exists and no other file is named.
    package var defaultFile: String

    package init(
        file: String? = nil,
        environment: [String: String] = [:],
        overrides: [String] = [],
        dataDirectory: String? = nil,
        homeDirectory: String? = nil,
        isRoot: Bool = false,
        workingDirectory: String = FileManager.default.currentDirectoryPath,
        defaultFile: String = "/etc/turnpike/turnpike.yml"
    ) {
        self.file = file
        self.environment = environment
        self.overrides = overrides
        self.dataDirectory = dataDirectory
        self.homeDirectory = homeDirectory
        self.isRoot = isRoot
        self.workingDirectory = workingDirectory
        self.defaultFile = defaultFile
    }
}

/// What came of loading.
package struct SettingsOutcome: Sendable {
    /// Nil when any diagnostic is an error.
    package var settings: Settings?
    /// File first, then environment, then flags, then what only shows when they are put together.
    package var diagnostics: [Diagnostic]
    /// Every served key, in the order of the table; empty when there are no settings.
    package var origins: [SettingOrigin]
    /// The file that was read; nil when there was none.
    package var file: String?

    package var errors: [Diagnostic] { diagnostics.filter { $0.severity == .error } }
    package var warnings: [Diagnostic] { diagnostics.filter { $0.severity == .warning } }
}

/// A value in effect, and what decided it.
package struct SettingOrigin: Sendable, Equatable {
    package var key: String
    package var value: SettingValue
    /// `default`, `turnpike.yml:12`, `environment TURNPIKE_REALM`, `flag --set realm`.
    package var origin: String
}

/// Puts file, environment and flags together: flag over environment over file over default.
package struct SettingsLoader: Sendable {
    package var inputs: SettingsInputs

    package init(inputs: SettingsInputs) {
        self.inputs = inputs
    }

    package func load() -> SettingsOutcome {
        var assembly = Assembly()
        let path = configurationPath()
        if let path {
            let file = ConfigurationFile(path: path)
            assembly.diagnostics += file.diagnostics
            for entry in file.entries {
                assembly.apply(entry.key, entry.raw, from: entry.place)
            }
        }
        applyEnvironment(to: &assembly)
        applyOverrides(to: &assembly)
        applyDataDirectory(to: &assembly)
        // Rules between keys would only repeat, in other words, what is wrong with the keys themselves.
        if assembly.isSound {
            assembly.checkRulesBetweenKeys()
        }
        guard assembly.isSound else {
            return SettingsOutcome(settings: nil, diagnostics: assembly.diagnostics, origins: [], file: path)
        }
        return SettingsOutcome(
            settings: assembly.settings,
            diagnostics: assembly.diagnostics,
            origins: assembly.origins,
            file: path
        )
    }

    private func configurationPath() -> String? {
        if let file = inputs.file { return file }
        if let file = inputs.environment["TURNPIKE_CONFIG"], !file.isEmpty { return file }
        return FileManager.default.fileExists(atPath: inputs.defaultFile) ? inputs.defaultFile : nil
    }

    /// An empty variable counts as none, as compose files leave them behind.
    private func applyEnvironment(to assembly: inout Assembly) {
        for (name, value) in inputs.environment.sorted(by: { $0.key < $1.key })
        where name.hasPrefix("TURNPIKE_") && !value.isEmpty && !Self.otherVariables.contains(name) {
            if let key = KeyTable.byEnvironmentName[name] {
                assembly.apply(key, RawValue(text: value), from: .environment(name: name))
            } else {
                let meant = Spelling.nearest(to: name, among: KeyTable.keys.map(\.environmentName))
                let mend = meant.map { "did you mean \($0)?" } ?? "remove it"
                assembly.diagnostics.append(
                    Diagnostic(
                        severity: .warning,
                        message: "names no key and has no effect; \(mend)",
                        place: .environment(name: name)
                    )
                )
            }
        }
    }

    private func applyOverrides(to assembly: inout Assembly) {
        for override in inputs.overrides {
            guard let equals = override.firstIndex(of: "="), equals > override.startIndex else {
                assembly.refuse(
                    "\(shown(override)) is not KEY=VALUE; write --set realm=example.org",
                    at: .flag("--set")
                )
                continue
            }
            let path = String(override[..<equals])
            if let key = KeyTable.byPath[path] {
                let raw = RawValue(text: String(override[override.index(after: equals)...]))
                assembly.apply(key, raw, from: .flag("--set \(path)"))
            } else {
                assembly.refuse(KeyTable.problem(unknown: path), at: .flag("--set"))
            }
        }
    }

    /// `--data-dir` has the last word on `data_dir`; where nothing names it, the default depends on who asks.
    private func applyDataDirectory(to assembly: inout Assembly) {
        guard let key = KeyTable.byPath["data_dir"] else { return }
        if let path = inputs.dataDirectory {
            assembly.apply(key, RawValue(text: path), from: .flag("--data-dir"))
        } else if assembly.places["data_dir"] == nil {
            // systemd puts several directories there, by colons, where a unit names several.
            if let state = inputs.environment["STATE_DIRECTORY"]?.split(separator: ":").first {
                assembly.apply(key, RawValue(text: String(state)), from: .environment(name: "STATE_DIRECTORY"))
            } else if inputs.isRoot {
                assembly.settings.dataDirectory = Settings().dataDirectory
            } else if let home = inputs.homeDirectory, home.hasPrefix("/") {
                assembly.settings.dataDirectory = Self.joined(home, ".local/share/turnpike")
            } else {
                assembly.refuse(
                    "data_dir: there is no HOME to keep data in; name a directory with --data-dir",
                    at: .builtIn
                )
            }
        }
        assembly.settings.dataDirectory = Self.joined(inputs.workingDirectory, assembly.settings.dataDirectory)
    }

    /// `path` as an absolute path, without a slash at its end.
    private static func joined(_ base: String, _ path: String) -> String {
        var whole = path.hasPrefix("/") ? path : base + (base.hasSuffix("/") ? "" : "/") + path
        while whole.count > 1, whole.hasSuffix("/") { whole.removeLast() }
        return whole
    }

    /// Variables of this prefix that are no twins of keys. `TURNPIKE_DATA_DIR` is one, of `data_dir`.
    private static let otherVariables: Set = ["TURNPIKE_CONFIG", "TURNPIKE_CERT_FINGERPRINT", "TURNPIKE_CA_FILE"]
}

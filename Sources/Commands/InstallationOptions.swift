import Accounts
import ArgumentParser
import Foundation
import Settings

/// Which installation a command works on.
struct InstallationOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The configuration file. Without it: TURNPIKE_CONFIG, else /etc/turnpike/turnpike.yml where it exists.",
            valueName: "file"
        )
    )
    var config: String?

    @Option(
        help: ArgumentHelp(
            """
            The directory of the database. Without it: TURNPIKE_DATA_DIR, else the configuration's data_dir, else \
            $STATE_DIRECTORY, else /var/lib/turnpike for root and ~/.local/share/turnpike for others.
            """,
            valueName: "dir"
        )
    )
    var dataDir: String?

    /// What file, environment and flags come to.
    /// - Parameter overrides: the arguments of `--set`, for commands that have it.
    func load(overrides: [String] = []) -> SettingsOutcome {
        let console = Console.current
        return SettingsLoader(
            inputs: SettingsInputs(
                file: config,
                environment: console.environment,
                overrides: overrides,
                dataDirectory: dataDir,
                homeDirectory: console.environment["HOME"],
                isRoot: console.effectiveUser == 0
            )
        ).load()
    }

    /// The settings in effect. Warnings go to standard error.
    /// - Throws: every diagnostic with status 78 where the configuration is refused.
    func settings(overrides: [String] = []) throws -> Settings {
        let outcome = load(overrides: overrides)
        guard let settings = outcome.settings else {
            throw CommandError(status: ExitStatus.configuration, lines: outcome.diagnostics.map(\.description))
        }
        for diagnostic in outcome.diagnostics { Console.current.message("turnpike: \(diagnostic)") }
        return settings
    }

    /// The account store of `settings`, with this command named in the audit table.
    func store(
        of settings: Settings,
        mode: AccountStore.Mode,
        createIfMissing: Bool = false
    ) throws -> AccountStore {
        let console = Console.current
        return try AccountStore(
            dataDirectory: settings.dataDirectory,
            mode: mode,
            createIfMissing: createIfMissing,
            actor: "cli uid=\(console.effectiveUser)",
            clock: console.now,
            report: { console.message("turnpike: \($0)") }
        )
    }

    /// A command for this installation, as it is typed.
    func command(_ words: String) -> String {
        "turnpike \(words)" + (config.map { " --config \($0.quotedForShell)" } ?? "")
            + (dataDir.map { " --data-dir \($0.quotedForShell)" } ?? "")
    }
}

import ArgumentParser
import Settings

struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "Check and show the configuration.",
        subcommands: [ConfigCheck.self, ConfigPrint.self]
    )
}

struct ConfigCheck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Say whether the configuration holds, and where it does not.",
        discussion: "Exits with status 78 where the server would not start with it."
    )

    @OptionGroup var installation: InstallationOptions
    @OptionGroup var overriding: OverrideOptions

    func run() throws {
        _ = try installation.settings(overrides: overriding.overrides)
        try Console.current.write("the configuration is good")
    }
}

struct ConfigPrint: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "print",
        abstract: "Show every value in effect, and what decided it."
    )

    @OptionGroup var installation: InstallationOptions
    @OptionGroup var overriding: OverrideOptions

    @Option(help: "How to print: text or json.")
    var format = OutputFormat.text

    func run() throws {
        _ = try installation.settings(overrides: overriding.overrides)
        let report = SettingsReport(installation.load(overrides: overriding.overrides))
        try Console.current.write(format == .json ? report.json : report.text)
    }
}

struct OverrideOptions: ParsableArguments {
    @Option(
        name: .customLong("set"),
        parsing: .singleValue,
        help: ArgumentHelp("Set a key of the configuration, as in --set relay.min_port=50000.", valueName: "key=value")
    )
    var overrides: [String] = []
}

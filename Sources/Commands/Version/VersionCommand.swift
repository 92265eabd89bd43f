import ArgumentParser
import Server

struct VersionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")

    @Option(help: "How to print the version: text or json.")
    var format = OutputFormat.text

    func run() throws {
        switch format {
        case .text: try Console.current.write("turnpike \(Version.current)")
        case .json: try Console.current.write(JSON.text(["version": Version.current]))
        }
    }
}

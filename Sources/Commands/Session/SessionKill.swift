import Accounts
import ArgumentParser

struct SessionKill: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kill",
        abstract: "End a session now.",
        discussion: """
            Its user may begin another at once. To keep the user out: turnpike user disable NAME
            """
    )

    @Argument(help: "The session's id, as turnpike session list prints it.")
    var id: String

    @OptionGroup var installation: InstallationOptions

    func run() throws {
        guard !id.isEmpty, id.utf8.count <= 255 else {
            throw CommandError.usage("that is no session id; turnpike session list shows them")
        }
        let client = try AdminClient(installation)
        let answer = try client.ask("DELETE", "/api/v1/admin/sessions/\(AdminClient.encoded(id))")
        switch answer.status {
        case 200..<300:
            Console.current.message("turnpike: ended session \(id); its user may begin another")
        case 404:
            throw CommandError.failed("there is no session \(id.quotedForMessage); turnpike session list shows them")
        default:
            throw CommandError.failed(client.problem(answer))
        }
    }
}

import Accounts
import Foundation
import Server
import Settings

/// The running server, as commands reach it: its API on the admin socket (docs/http-api.md).
struct AdminClient {
    let socketPath: String
    private let installation: InstallationOptions
    private let timeoutSeconds: Int64

    /// - Throws: status 78 where the configuration does not hold.
    init(_ installation: InstallationOptions, timeoutSeconds: Int64 = 30) throws {
        socketPath = AdminSocketPath.of(try installation.settings())
        self.installation = installation
        self.timeoutSeconds = timeoutSeconds
    }

    /// A body of status 200, 201 or 202.
    /// - Throws: what the server has against it, with status 1.
    func get<Value: Decodable>(_ target: String, as type: Value.Type = Value.self) throws -> Value {
        let answer = try ask("GET", target)
        return try decode(answer)
    }

    func decode<Value: Decodable>(_ answer: AdminConnection.Answer) throws -> Value {
        guard answer.status < 300 else { throw CommandError.failed(problem(answer)) }
        do {
            return try JSONDecoder().decode(Value.self, from: Data(answer.body))
        } catch {
            throw CommandError.failed(
                "the server at \(socketPath) answers in a way that this version does not know; "
                    + "turnpike version shows this one's, restart the server if it is older"
            )
        }
    }

    /// - Parameter target: below `/`, with its query.
    /// - Returns: an answer of any status.
    /// - Throws: status 1 where none comes.
    func ask(_ method: String, _ target: String) throws -> AdminConnection.Answer {
        do throws(AdminConnection.Failure) {
            return try AdminConnection.open(path: socketPath, timeoutSeconds: timeoutSeconds).ask(method, target)
        } catch {
            throw CommandError.failed(message(error))
        }
    }

    /// Whether anybody listens on the socket.
    var hasServer: Bool {
        do throws(AdminConnection.Failure) {
            _ = try AdminConnection.open(path: socketPath, timeoutSeconds: timeoutSeconds)
            return true
        } catch {
            if case .nobody = error { return false }
            return true
        }
    }

    /// What an answer of status 400 and up says (RFC 9457).
    func problem(_ answer: AdminConnection.Answer) -> String {
        let detail = (try? JSONDecoder().decode(Problem.self, from: Data(answer.body)))?.detail
        return detail?.escapedForTerminal ?? "the server at \(socketPath) answers with status \(answer.status)"
    }

    /// One segment of a path or one value of a query.
    static func encoded(_ text: String) -> String {
        text.addingPercentEncoding(withAllowedCharacters: plain) ?? ""
    }

    private static let plain = CharacterSet(
        charactersIn: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    )

    private struct Problem: Decodable {
        let detail: String
    }

    private func message(_ failure: AdminConnection.Failure) -> String {
        switch failure {
        case .nobody:
            "no server answers at \(socketPath); start it with: \(installation.command("serve"))"
        case .system(_, EACCES), .system(_, EPERM):
            "\(socketPath) is for the server's own user; run the command as that user or as root"
        case .system(let call, let code):
            "\(socketPath) cannot be used (\(call): \(String(cString: strerror(code)))); restart the server"
        case .pathTooLong:
            "\(socketPath) is too long for a socket; set admin.socket to a path of at most 107 bytes"
        case .timedOut:
            "the server at \(socketPath) has not answered for \(timeoutSeconds) s; see its log, "
                + "and restart it if it hangs"
        case .malformed:
            "what answers at \(socketPath) is no Turnpike, or went away; see the server's log"
        }
    }
}

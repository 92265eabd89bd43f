import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore

/// Logs callers in: by `Authorization: Basic` or `Bearer` (RFC 7617, RFC 6750), or by the socket they come over.
struct Authenticator: Sendable {
    let directory: any GatewayDirectory
    let throttle: LoginThrottle
    let realm: String

    enum Refusal: Error, Equatable {
        case missing, malformed, refused, unavailable
        case throttled(milliseconds: UInt64)
    }

    func caller(_ request: HTTPRequest, from client: ClientSource) async throws(Refusal) -> Identity {
        if client.isLocal { return .operatorOnSocket }
        let values = request.headerFields[values: .authorization]
        guard let value = values.first else { throw .missing }
        guard values.count == 1, let login = Self.login(value) else { throw .malformed }
        return try await check(login, from: client)
    }

    func check(_ login: GatewayLogin, from client: ClientSource) async throws(Refusal) -> Identity {
        if let wait = throttle.wait(client, at: NIODeadline.now().uptimeNanoseconds) {
            throw .throttled(milliseconds: wait)
        }
        switch await directory.login(login) {
        case .accepted(let identity):
            return identity
        case .refused:
            throttle.failed(client, at: NIODeadline.now().uptimeNanoseconds)
            throw .refused
        case .unavailable:
            throw .unavailable
        }
    }

    func answer(_ refusal: Refusal) -> HTTPAnswer {
        switch refusal {
        case .missing, .malformed, .refused:
            let challenge = "Basic realm=\"\(realm.asQuotedString)\", charset=\"UTF-8\""
            return .problem(
                401,
                refusal == .missing ? "log in by Authorization: Basic or Bearer" : "the credentials do not hold",
                fields: [("WWW-Authenticate", challenge)]
            )
        case .unavailable:
            return .problem(503, "the account store does not answer; try again", fields: [("Retry-After", "1")])
        case .throttled(let milliseconds):
            return .problem(
                429,
                "too many failed logins from there; wait",
                fields: [("Retry-After", "\(milliseconds / 1_000 + 1)")]
            )
        }
    }

    static func login(_ value: String) -> GatewayLogin? {
        let parts = value.split(separator: " ", maxSplits: 1).map(\.trimmingBlanks)
        guard parts.count == 2 else { return nil }
        switch parts[0].lowercased() {
        case "bearer":
            return parts[1].isEmpty ? nil : .token(parts[1])
        case "basic":
            guard let data = Data(base64Encoded: parts[1]), let text = String(validating: data, as: UTF8.self) else {
                return nil
            }
            return basic(text)
        default:
            return nil
        }
    }

    /// RFC 7617 section 2: the name ends at the first colon. That of a time-limited credential has one itself, behind
    /// digits: `1790000000:alice:password`. With one colon only, `12345:secret`, the digits are a name and no time.
    private static func basic(_ text: String) -> GatewayLogin? {
        // By bytes: a colon and a combining mark behind it are one character.
        let bytes = text.utf8
        guard let first = bytes.firstIndex(of: 0x3A) else { return nil }
        var end = first
        if first > bytes.startIndex, bytes[..<first].allSatisfy({ (0x30...0x39).contains($0) }),
            let second = bytes[bytes.index(after: first)...].firstIndex(of: 0x3A)
        {
            end = second
        }
        return .password(username: String(text[..<end]), password: String(text[bytes.index(after: end)...]))
    }
}

/// Lets nobody on who has not logged in, and on admin routes nobody who is no admin.
struct CallerMiddleware: RouterMiddleware {
    let state: GatewayState
    let directory: any GatewayDirectory
    let isForAdmins: Bool

    func handle(
        _ request: Request,
        context: GatewayContext,
        next: (Request, GatewayContext) async throws -> Response
    ) async throws -> Response {
        let authenticator = state.authenticator(directory)
        var context = context
        do throws(Authenticator.Refusal) {
            context.caller = try await authenticator.caller(request.head, from: context.client)
        } catch {
            throw RefusedCaller(answer: authenticator.answer(error))
        }
        guard !isForAdmins || context.caller?.isAdmin == true else {
            throw APIProblem(403, "this takes an admin token (turnpike token create) or the admin socket")
        }
        if let user = context.caller?.user, let wait = state.waitForRequest(user) {
            throw RefusedCaller(
                answer: .problem(429, "too many requests; wait", fields: [("Retry-After", "\(wait / 1_000 + 1)")])
            )
        }
        return try await next(request, context)
    }
}

/// An answer that is made already.
struct RefusedCaller: Error {
    let answer: HTTPAnswer
}

extension String {
    /// Within the quotes of RFC 9110 section 5.6.4; what has no place in a header is left out.
    fileprivate var asQuotedString: String {
        String(
            String.UnicodeScalarView(
                unicodeScalars.filter { $0.value >= 0x20 && $0.value < 0x7F && $0 != "\"" && $0 != "\\" }
            )
        )
    }
}

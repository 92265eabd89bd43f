import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore

/// Answers the gateway's requests: Hummingbird's router finds the route, and whatever goes wrong becomes a problem of
/// RFC 9457.
final class GatewayCore: HTTPAnswering {
    private let state: GatewayState
    private let responder: RouterResponder<GatewayContext>
    private let signaling: any SignalingEntrance
    private let logger: Logger

    init(
        state: GatewayState,
        signaling: any SignalingQueries & SignalingEntrance,
        directory: any GatewayDirectory,
        control: any GatewayControl,
        logger: Logger
    ) {
        let router = Router(context: GatewayContext.self, options: .autoGenerateHeadEndpoints)
        PublicRoutes(state: state, signaling: signaling, directory: directory).add(to: router)
        AdminRoutes(state: state, signaling: signaling, directory: directory, control: control).add(to: router)
        responder = router.buildResponder()
        self.state = state
        self.signaling = signaling
        self.logger = logger
    }

    func answer(_ request: HTTPRequest, body: ByteBuffer, from source: ClientSource) async -> HTTPOutcome {
        let path = request.path ?? "/"
        if path == "/signal" || path.hasPrefix("/signal?") {
            return await signaling.open(request, from: source)
        }
        if let page = Pages.answer(to: request) { return .answer(page) }
        let origin = crossOrigin(request)
        if let origin, request.method == .options { return .answer(preflight(origin)) }
        var answer = await route(request, body, source)
        if let origin { answer.fields += Self.crossOriginFields(origin) }
        return .answer(answer)
    }

    private func route(_ request: HTTPRequest, _ body: ByteBuffer, _ source: ClientSource) async -> HTTPAnswer {
        let context = GatewayContext(source: GatewayContext.Origin(logger: quiet, client: source))
        do {
            let request = Request(head: request, body: RequestBody(buffer: body))
            let answer = try await responder.respond(to: request, context: context).collected()
            // What is not there is not there, whatever was asked of it: one answer of one length (case WS-20).
            return answer.status >= 400 && answer.body.readableBytes == 0 ? .problem(answer.status) : answer
        } catch let problem as APIProblem {
            return .problem(problem.status, problem.detail)
        } catch let refused as RefusedCaller {
            return refused.answer
        } catch let error as any HTTPResponseError {
            return .problem(error.status.code)
        } catch {
            logger.error("a request failed", metadata: ["reason": "\(error)"])
            return .problem(500, "the server could not do it; its log says why")
        }
    }

    // MARK: Pages of other origins

    /// The allowed origin that a page's script asks from, where it asks for the API.
    private func crossOrigin(_ request: HTTPRequest) -> String? {
        guard request.path?.hasPrefix("/api/v1/") == true, request.path?.hasPrefix("/api/v1/admin") == false,
            let origin = request.headerFields[Self.origin], state.configuration.allowedOrigins.contains(origin)
        else { return nil }
        return origin
    }

    private func preflight(_ origin: String) -> HTTPAnswer {
        HTTPAnswer(
            status: 204,
            fields: Self.crossOriginFields(origin) + [
                ("Access-Control-Allow-Methods", "GET"), ("Access-Control-Allow-Headers", "Authorization"),
                ("Access-Control-Max-Age", "600"),
            ]
        )
    }

    private static func crossOriginFields(_ origin: String) -> [(name: String, value: String)] {
        [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
    }

    private static let origin = HTTPField.Name("Origin") ?? .accept
    /// Routes log nothing by themselves.
    private let quiet = Logger(label: "gateway") { _ in SwiftLogNoOpLogHandler() }
}

/// Where WebSockets come in.
protocol SignalingEntrance: Sendable {
    func open(_ request: HTTPRequest, from source: ClientSource) async -> HTTPOutcome
}

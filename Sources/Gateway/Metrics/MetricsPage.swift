import HTTPTypes
import NIOCore

/// `GET /metrics`, and nothing else.
///
/// However many ask at once, the numbers are collected once: who asks while they are being collected gets the same page, and
/// for a moment after that nobody has them collected anew.
actor MetricsPage: HTTPAnswering {
    private let collect: @Sendable () async -> String
    private var collecting: Task<ByteBuffer, Never>?
    private var last: (page: ByteBuffer, at: ContinuousClock.Instant)?

    init(collect: @escaping @Sendable () async -> String) { self.collect = collect }

    nonisolated func answer(_ request: HTTPRequest, body: ByteBuffer, from source: ClientSource) async -> HTTPOutcome {
        let path = request.path ?? "/"
        guard path == "/metrics" || path.hasPrefix("/metrics?") else {
            return .answer(.problem(404, "this listener has /metrics and nothing else"))
        }
        guard request.method == .get || request.method == .head else {
            return .answer(.problem(405, fields: [("Allow", "GET, HEAD")]))
        }
        return .answer(HTTPAnswer(status: 200, fields: [("Content-Type", Self.contentType)], body: await page()))
    }

    private func page() async -> ByteBuffer {
        if let last, ContinuousClock.now - last.at < GatewayLimits.metricsAge { return last.page }
        if let collecting { return await collecting.value }
        let task = Task { [collect] in ByteBuffer(string: await collect()) }
        collecting = task
        let page = await task.value
        collecting = nil
        last = (page, .now)
        return page
    }

    private static let contentType = "text/plain; version=0.0.4; charset=utf-8"
}

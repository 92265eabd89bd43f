import HTTPTypes
import NIOCore

/// `GET /metrics`, and nothing else.
///
/// The numbers are of a moment after they were asked for, and are collected for one page at a time: all who ask while a
/// page is being made get the next one together, so that nobody can ask the workers for more than that.
actor MetricsPage: HTTPAnswering {
    private let collect: @Sendable () async -> String
    /// The page that is being made, or was made last.
    private var current: Task<ByteBuffer, Never>?
    /// The one after it, which has not begun.
    private var next: Task<ByteBuffer, Never>?

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
        if let next { return await next.value }
        let running = current
        let task = Task {
            _ = await running?.value
            return await self.make()
        }
        next = task
        return await task.value
    }

    private func make() async -> ByteBuffer {
        current = next
        next = nil
        return ByteBuffer(string: await collect())
    }

    private static let contentType = "text/plain; version=0.0.4; charset=utf-8"
}

import HTTPTypes
import Testing

@testable import Gateway

/// Cases WS-14 and WS-15, and that it does not matter in what pieces a head comes.
struct RequestHeadTests {
    private static let host = "Host: x\r\n"

    @Test func readsARequestAndLeavesWhatIsBehindIt() throws {
        let text = "POST /api/v1/x?y=%20 HTTP/1.1\r\n\(Self.host)Content-Length: 4\r\nX-A:\t b c \r\n\r\nbody"
        let (head, count) = try #require(complete(read(text)))
        #expect(count == text.utf8.count - 4)
        #expect(head.request.method == .post && head.request.path == "/api/v1/x?y=%20")
        #expect(head.bodyBytes == 4 && head.keepsAlive)
        #expect(head.request.headerFields.map(\.value) == ["x", "4", "b c"])
    }

    @Test func piecesOfAByteMakeTheSame() throws {
        let text = Array("GET /healthz HTTP/1.1\r\n\(Self.host)Connection: close\r\n\r\n".utf8)
        var reader = RequestHeadReader()
        for count in 1..<text.count {
            guard case .incomplete = read(&reader, Array(text[..<count])) else {
                Issue.record("complete after \(count) bytes")
                return
            }
        }
        let (head, _) = try #require(complete(read(&reader, text)))
        #expect(!head.keepsAlive)
    }

    @Test(arguments: [
        ("GET / HTTP/1.1\n\(host)\r\n", 400), ("GET / HTTP/1.1\r\nHost: x\n\r\n", 400),
        ("GET / HTTP/1.1\r\r\n\(host)\r\n", 400), ("GET / HTTP/1.1\r\n\(host)A: b\r\n c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\(host)A: \0\r\n\r\n", 400), ("GET / HTTP/1.1\r\n\(host)A: \u{7}\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\(host)A : b\r\n\r\n", 400), ("GET / HTTP/1.1\r\n\(host): b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\(host)nothing\r\n\r\n", 400), ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\(host)\(host)\r\n", 400), ("GET /\r\n\r\n", 400),
        ("\r\nGET / HTTP/1.1\r\n\(host)\r\n", 400),
        ("GET  / HTTP/1.1\r\n\(host)\r\n", 400), ("GET * HTTP/1.1\r\n\(host)\r\n", 400),
        ("GET http://x/ HTTP/1.1\r\n\(host)\r\n", 400), ("CONNECT x:1 HTTP/1.1\r\n\(host)\r\n", 400),
        ("G@T / HTTP/1.1\r\n\(host)\r\n", 400), ("GET / HTTP/1.x\r\n\(host)\r\n", 505),
        ("GET / HTTP/2.0\r\n\(host)\r\n", 505), ("GET / http/1.1\r\n\(host)\r\n", 400),
        ("POST / HTTP/1.1\r\n\(host)Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\n\(host)Content-Length: 1,1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\n\(host)Content-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\n\(host)Content-Length: 0x1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\n\(host)Content-Length:\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\n\(host)Content-Length: 99999999999999999999999\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\n\(host)Content-Length: 65537\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\n\(host)Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\n\(host)Transfer-Encoding: chunked\r\n\r\n", 411),
        ("GET / HTTP/1.1\r\n\(host)Content-Length: 1\r\n\r\n", 400),
    ])
    func refuses(_ text: String, status: Int) {
        guard case .refused(let refusal) = read(text) else {
            Issue.record("\(text.debugDescription) was not refused")
            return
        }
        #expect(refusal.status == status, "\(text.debugDescription): \(refusal.detail)")
    }

    @Test func sizesAreBoundedToTheByte() {
        let line = "GET /" + String(repeating: "a", count: GatewayLimits.headLineBytes - 15)
        #expect(complete(read("\(line) HTTP/1.1\r\n\(Self.host)\r\n")) != nil)
        #expect(isTooLarge(read("\(line)aa HTTP/1.1\r\n\(Self.host)\r\n")))
        let fields = (1..<GatewayLimits.headerFields).map { "X-\($0): a\r\n" }.joined()
        #expect(complete(read("GET / HTTP/1.1\r\n\(Self.host)\(fields)\r\n")) != nil)
        #expect(isTooLarge(read("GET / HTTP/1.1\r\n\(Self.host)\(fields)X: a\r\n\r\n")))
        let long = (1...17).map { "X-\($0): " + String(repeating: "a", count: 1_000) + "\r\n" }.joined()
        #expect(isTooLarge(read("GET / HTTP/1.1\r\n\(Self.host)\(long)\r\n")))
        // No end in sight is too large as well.
        #expect(isTooLarge(read(String(repeating: "a", count: 9_000))))
    }

    @Test func nothingThatIsThrownAtItTraps() {
        var generator = SplitMix(seed: 42)
        let seeds = [
            "GET /signal HTTP/1.1\r\n\(Self.host)Upgrade: websocket\r\n\r\n",
            "POST / HTTP/1.1\r\n\(Self.host)Content-Length: 12\r\n\r\n",
        ].map { Array($0.utf8) }
        for _ in 0..<20_000 {
            var bytes = seeds[Int.random(in: 0..<seeds.count, using: &generator)]
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            var reader = RequestHeadReader()
            if case .complete(_, let count) = read(&reader, bytes) { #expect(count <= bytes.count) }
        }
    }

    private func read(_ text: String) -> RequestHead.Outcome {
        var reader = RequestHeadReader()
        return read(&reader, Array(text.utf8))
    }

    private func read(_ reader: inout RequestHeadReader, _ bytes: [UInt8]) -> RequestHead.Outcome {
        bytes.withUnsafeBytes { reader.read($0) }
    }

    private func complete(_ outcome: RequestHead.Outcome) -> (RequestHead, Int)? {
        if case .complete(let head, let count) = outcome { (head, count) } else { nil }
    }

    private func isTooLarge(_ outcome: RequestHead.Outcome) -> Bool {
        if case .refused(let refusal) = outcome { refusal.status == 431 } else { false }
    }
}

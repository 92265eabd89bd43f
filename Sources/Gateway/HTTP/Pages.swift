import HTTPTypes
import NIOCore

/// The web pages. They are part of the program, which needs no file beside it: the test page for visitors, the
/// dashboard for operators, and what the two are made of.
enum Pages {
    /// The answer to a request for a page or a part of one; nil where the path is no page's.
    static func answer(to request: HTTPRequest) -> HTTPAnswer? {
        guard let path = request.path?.prefix(while: { $0 != "?" }), let file = files[String(path)] else { return nil }
        guard request.method == .get || request.method == .head else {
            return .problem(405, "a page is asked for by GET", fields: [("Allow", "GET, HEAD")])
        }
        var fields = [("Content-Type", file.type)]
        if file.isDocument { fields.append(("Content-Security-Policy", policy(host: request.authority))) }
        return HTTPAnswer(status: 200, fields: fields, body: file.body)
    }

    private struct File {
        let type: String
        let body: ByteBuffer
        var isDocument: Bool { type.hasPrefix("text/html") }

        init(_ type: String, _ bytes: [UInt8]) {
            self.type = type
            body = ByteBuffer(bytes: bytes)
        }
    }

    private static let files = [
        "/": File("text/html; charset=utf-8", PackageResources.test_html),
        "/admin": File("text/html; charset=utf-8", PackageResources.admin_html),
        "/assets/test.js": File("text/javascript; charset=utf-8", PackageResources.test_js),
        "/assets/admin.js": File("text/javascript; charset=utf-8", PackageResources.admin_js),
        "/assets/plot.js": File("text/javascript; charset=utf-8", PackageResources.plot_js),
        "/assets/style.css": File("text/css; charset=utf-8", PackageResources.style_css),
        "/assets/icon.svg": File("image/svg+xml", PackageResources.icon_svg),
    ]

    /// Nothing but what this server serves: no script of a page's own text, no form that is sent, no frame around it.
    private static func policy(host: String?) -> String {
        // Older browsers do not count the WebSocket of the same host as 'self'. The host comes from the client and goes
        // back to it, so what could begin another directive is left out.
        let isPlain = host?.utf8.allSatisfy(isHostByte) == true && host?.isEmpty == false
        let socket = isPlain ? host.map { " wss://\($0)" } ?? "" : ""
        return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'\(socket); "
            + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    }

    private static func isHostByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: ":"),
            UInt8(ascii: "["), UInt8(ascii: "]"):
            true
        default: false
        }
    }
}

import HTTPTypes
import NIOCore
import Testing

@testable import Gateway

@Suite struct PagesTests {
    private func ask(_ path: String, _ method: HTTPRequest.Method = .get, host: String? = "a.example:8443")
        -> HTTPAnswer?
    {
        Pages.answer(to: HTTPRequest(method: method, scheme: "https", authority: host, path: path))
    }

    private func field(_ name: String, of answer: HTTPAnswer?) -> String? {
        answer?.fields.first { $0.name == name }?.value
    }

    @Test(arguments: [
        ("/", "text/html; charset=utf-8"), ("/admin", "text/html; charset=utf-8"),
        ("/assets/test.js", "text/javascript; charset=utf-8"), ("/assets/admin.js", "text/javascript; charset=utf-8"),
        ("/assets/plot.js", "text/javascript; charset=utf-8"), ("/assets/style.css", "text/css; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"), ("/?from=mail", "text/html; charset=utf-8"),
    ])
    func everyPartOfAPageIsThere(path: String, type: String) {
        let answer = ask(path)
        #expect(answer?.status == 200)
        #expect(field("Content-Type", of: answer) == type)
        #expect((answer?.body.readableBytes ?? 0) > 100)
    }

    @Test func whatThePagesNameIsThere() throws {
        for path in ["/", "/admin"] {
            let text = try #require(ask(path).map { String(buffer: $0.body) })
            for part in text.split(separator: "\"") where part.hasPrefix("/") {
                #expect(ask(String(part)) != nil, "\(path) names \(part)")
            }
            // The policy forbids what is written into a page itself.
            #expect(!text.contains("<style") && !text.contains("style=") && !text.contains("onclick="))
        }
    }

    @Test(arguments: [
        "//", "/admin/", "/assets/", "/assets/test.html", "/assets/../admin", "/index.html", "/Admin", "",
    ])
    func nothingElseIsAPage(path: String) { #expect(ask(path) == nil) }

    @Test func pagesAreAskedForByGetOrHead() {
        #expect(ask("/", .head)?.status == 200)
        for method in [HTTPRequest.Method.post, .put, .delete, .options] {
            let answer = ask("/admin", method)
            #expect(answer?.status == 405)
            #expect(field("Allow", of: answer) == "GET, HEAD")
        }
    }

    @Test func thePolicyAllowsThisServerAloneWhateverTheHostSays() {
        let policy =
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'HERE; "
            + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        let hosts = [
            "a.example:8443": " wss://a.example:8443", "[::1]:8443": " wss://[::1]:8443", "": "",
            "a; script-src *": "", "a 'unsafe-inline'": "", "a,b": "",
        ]
        for (host, socket) in hosts {
            let expected = policy.replacing("HERE", with: socket)
            #expect(field("Content-Security-Policy", of: ask("/", host: host)) == expected)
        }
        #expect(field("Content-Security-Policy", of: ask("/", host: nil)) == policy.replacing("HERE", with: ""))
    }
}

import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import Signaling

/// What a route knows of a request besides the request.
struct GatewayContext: RequestContext {
    /// What a context is made from.
    struct Origin: RequestContextSource {
        let logger: Logger
        let client: ClientSource
    }

    typealias Source = Origin

    var coreContext: CoreRequestContextStorage
    let client: ClientSource
    /// Who asks; nil on a route that anybody may ask.
    var caller: Identity?

    init(source: Origin) {
        coreContext = CoreRequestContextStorage(source: source)
        client = source.client
    }

    /// A part of the path, decoded.
    func part(_ name: String) throws(APIProblem) -> String {
        guard let raw = coreContext.parameters.get(name), let text = raw.removingPercentEncoding, !text.isEmpty else {
            throw APIProblem(400, "the path is not percent-encoded UTF-8")
        }
        return text
    }
}

/// What a request may carry, and which members that has.
protocol APIBody: Decodable {
    associatedtype CodingKeys: CodingKey & CaseIterable
}

extension Request {
    /// A member of the query, decoded; nil where it is absent.
    func query(_ name: String) -> String? { uri.queryParameters[name[...]].map(String.init) }

    /// A number of the query within bounds.
    func number(_ name: String, in range: ClosedRange<Int>, default standard: Int) throws(APIProblem) -> Int {
        guard let text = query(name) else { return standard }
        guard let number = Int(text), range.contains(number) else {
            throw APIProblem(400, "\(name) has to be a number of \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// The body as JSON. A member that has no meaning may be one that is misspelled, and a key that is there twice is
    /// read otherwise by others: neither is passed over.
    func json<Value: APIBody>(_ type: Value.Type) async throws -> Value {
        let body = try await body.collect(upTo: GatewayLimits.bodyBytes)
        try Self.check(body, type)
        do {
            return try JSONDecoder().decode(type, from: Data(body.readableBytesView))
        } catch DecodingError.keyNotFound(let key, _) {
            throw APIProblem(422, "\(key.stringValue) is missing")
        } catch DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context) {
            let path = context.codingPath.map(\.stringValue).joined(separator: ".")
            throw APIProblem(422, "\(path.isEmpty ? "the body" : path) has another type than it should")
        } catch {
            throw APIProblem(400, "the body is not JSON")
        }
    }

    private static func check<Value: APIBody>(_ body: ByteBuffer, _ type: Value.Type) throws(APIProblem) {
        // JSONDecoder guesses at other encodings. JSON is UTF-8, and begins without a mark (RFC 8259 section 8.1).
        guard (body.readableBytesView.first ?? 0) < 0x80, !body.readableBytesView.contains(0) else {
            throw APIProblem(400, "the body is not JSON in UTF-8")
        }
        let names: [String]
        do throws(JSONFault) {
            names = try body.withUnsafeReadableBytes { bytes throws(JSONFault) in
                // What is no object is told so by who reads it.
                guard bytes.first(where: { $0 > 0x20 }) == UInt8(ascii: "{") else { return [] }
                return try JSONObject.members(of: bytes.assumingMemoryBound(to: UInt8.self))
            }
        } catch {
            throw APIProblem(400, error.description)
        }
        let known = type.CodingKeys.allCases.map(\.stringValue)
        if let other = names.first(where: { !known.contains($0) }) {
            let shown = other.unicodeScalars.allSatisfy { $0.properties.isAlphabetic } ? other.prefix(40) : "a member"
            throw APIProblem(422, "\(shown) is unknown here; the body may have \(known.joined(separator: ", "))")
        }
    }
}

extension Response {
    static func json(_ value: some Encodable, status: HTTPResponse.Status = .ok) -> Response {
        Response(
            status: status,
            headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: JSONText.buffer(value))
        )
    }

    static let nothing = Response(status: .noContent)

    /// The response as the connection sends it. Routes make bodies of one piece.
    func collected() async throws -> HTTPAnswer {
        let body = Collected()
        try await self.body.write(CollectingWriter(collected: body))
        var fields: [(name: String, value: String)] = []
        for field in headers where field.name != .contentLength {
            fields.append((field.name.rawName, field.value))
        }
        return HTTPAnswer(status: status.code, fields: fields, body: body.buffer)
    }
}

extension [PeerEntry] {
    /// `{"peers":[…]}`. Metadata goes out as it came in: reading a room's anew would take longer than all the rest.
    var response: Response {
        var text = ByteBuffer(string: #"{"peers":["#)
        for (index, peer) in enumerated() {
            if index > 0 { text.writeString(",") }
            text.writeString(#"{"joinedAt":\#(peer.joinedAt),"metadata":"#)
            text.writeBytes(peer.metadata)
            text.writeString(#","peerId":"#)
            text.writeBytes(JSONText.bytes(peer.peerId))
            text.writeString("}")
        }
        text.writeString("]}")
        return Response(
            status: .ok,
            headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: text)
        )
    }
}

private final class Collected {
    var buffer = ByteBuffer()
}

private struct CollectingWriter: ResponseBodyWriter {
    let collected: Collected

    mutating func write(_ buffer: ByteBuffer) async throws { collected.buffer.writeImmutableBuffer(buffer) }

    consuming func finish(_ trailingHeaders: HTTPFields?) async throws {}
}

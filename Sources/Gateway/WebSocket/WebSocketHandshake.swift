import Foundation
import HTTPTypes
import NIOCore
import OpenSSLCrypto

/// The opening handshake of a WebSocket, as far as it does not depend on who comes (RFC 6455 section 4.2).
package struct WebSocketHandshake: Sendable {
    package let origin: String?
    /// What goes into the 101.
    private let accept: String
    private let subprotocol: String?

    /// The answer to what is no handshake.
    package struct Refusal: Error { package let answer: HTTPAnswer }

    /// - Parameter subprotocol: chosen where the client offers it.
    package init(_ request: HTTPRequest, subprotocol: String? = nil) throws(Refusal) {
        guard request.method == .get else {
            throw Refusal(answer: .problem(405, "a WebSocket begins with GET", fields: [("Allow", "GET")]))
        }
        let fields = request.headerFields
        guard Self.list(fields, "Upgrade").contains("websocket"), Self.list(fields, "Connection").contains("upgrade")
        else {
            throw Refusal(answer: .problem(400, "this is a WebSocket endpoint: Upgrade: websocket is missing"))
        }
        guard Self.values(fields, "Sec-WebSocket-Version") == ["13"] else {
            throw Refusal(
                answer: .problem(426, "WebSocket version 13 is spoken here", fields: [("Sec-WebSocket-Version", "13")])
            )
        }
        let keys = Self.values(fields, "Sec-WebSocket-Key")
        guard keys.count == 1, let key = keys.first, key.utf8.count == 24,
            Data(base64Encoded: key)?.count == 16
        else { throw Refusal(answer: .problem(400, "Sec-WebSocket-Key has to be 16 bytes in base64")) }
        let origins = Self.values(fields, "Origin")
        guard origins.count <= 1 else { throw Refusal(answer: .problem(400, "there are two Origins")) }
        origin = origins.first
        // Section 1.3: the key with this UUID, hashed, shows that the server means to speak WebSocket.
        let digest = Digest.sha1(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))
        accept = Data(digest).base64EncodedString()
        let offered = Self.values(fields, "Sec-WebSocket-Protocol").flatMap { value in
            value.split(separator: ",").map(\.trimmingBlanks)
        }
        self.subprotocol = subprotocol.flatMap { offered.contains($0) ? $0 : nil }
    }

    /// 101. No extension is ever taken, so compression, its bombs and its side channels stay outside (case WS-13).
    func answer(_ allocator: ByteBufferAllocator) -> ByteBuffer {
        var bytes = allocator.buffer(capacity: 256)
        bytes.writeString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
        bytes.writeString("Sec-WebSocket-Accept: \(accept)\r\n")
        // Clients tell by it a credential that has expired from one that is wrong.
        bytes.writeString("Date: \(HTTPDate.current)\r\n")
        if let subprotocol { bytes.writeString("Sec-WebSocket-Protocol: \(subprotocol)\r\n") }
        bytes.writeString("\r\n")
        return bytes
    }

    private static func values(_ fields: HTTPFields, _ name: String) -> [String] {
        HTTPField.Name(name).map { fields[values: $0] } ?? []
    }

    private static func list(_ fields: HTTPFields, _ name: String) -> [String] {
        values(fields, name).flatMap { $0.split(separator: ",").map { $0.trimmingBlanks.lowercased() } }
    }
}

/// A handshake that is to be accepted, and who takes the connection over.
package struct WebSocketAcceptance: Sendable {
    let handshake: WebSocketHandshake
    let messageBytes: Int
    /// The same until the client has said who it is; nil where it has.
    let anteroomBytes: Int?
    /// Runs on the connection's loop.
    let makeDelegate: @Sendable (any EventLoop) -> any WebSocketDelegate
    /// Of one message.
    let fragments: Int

    package init(
        handshake: WebSocketHandshake,
        messageBytes: Int,
        anteroomBytes: Int? = nil,
        fragments: Int = GatewayLimits.fragments,
        makeDelegate: @escaping @Sendable (any EventLoop) -> any WebSocketDelegate
    ) {
        self.handshake = handshake
        self.messageBytes = messageBytes
        self.anteroomBytes = anteroomBytes
        self.fragments = fragments
        self.makeDelegate = makeDelegate
    }

    func answer(_ allocator: ByteBufferAllocator) -> ByteBuffer { handshake.answer(allocator) }
}

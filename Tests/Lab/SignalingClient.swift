import STUN

/// Cuts a connection into messages: a byte for the kind, four for the length, the payload. The kinds are those of a
/// WebSocket (RFC 6455 section 11.8).
package final class SignalingFramer {
    package enum Kind: UInt8 {
        case text = 0x1
        case close = 0x8
        case ping = 0x9
        case pong = 0xA
    }

    package let connection: TCPConnection
    private var unread: [UInt8] = []

    package init(_ connection: TCPConnection) { self.connection = connection }

    package func send(_ kind: Kind, _ payload: [UInt8]) {
        let length = UInt32(clamping: payload.count)
        connection.send([kind.rawValue] + withUnsafeBytes(of: length.bigEndian, Array.init) + payload)
    }

    package func take(_ bytes: [UInt8], _ message: (Kind, [UInt8]) -> Void) {
        unread += bytes
        while unread.count >= 5 {
            let length = unread[1..<5].reduce(0) { $0 << 8 | Int($1) }
            guard unread.count >= 5 + length else { return }
            let kind = Kind(rawValue: unread[0])
            let payload = Array(unread[5..<(5 + length)])
            unread.removeFirst(5 + length)
            guard let kind else { return connection.abort() }
            message(kind, payload)
        }
    }
}

/// A client's connection to a `Rendezvous`.
package final class SignalingClient {
    package var onOpen: (() -> Void)?
    /// Takes JSON. Without it, messages are put into `inbox`.
    package var onMessage: ((String) -> Void)?
    /// The code of the server's close frame; nil where the connection went without one.
    package var onClose: ((_ code: UInt16?) -> Void)?
    package var inbox: [String] = []
    package private(set) var isOpen = false
    private let framer: SignalingFramer
    private var code: UInt16?

    /// - Returns: nil where the host has no address of the server's family.
    package init?(_ host: Host, to server: Endpoint) {
        guard let connection = host.connect(to: server) else { return nil }
        framer = SignalingFramer(connection)
        connection.onOpen = { [weak self] in
            self?.isOpen = true
            self?.onOpen?()
        }
        connection.onReceive = { [weak self] bytes in self?.take(bytes) }
        connection.onEnd = { [unowned connection] in connection.finish() }
        connection.onClose = { [weak self] _ in
            self?.isOpen = false
            self?.onClose?(self?.code)
        }
    }

    /// Sends a message; before the connection is open, as soon as it is.
    package func send(_ json: String) { framer.send(.text, Array(json.utf8)) }

    /// Says that it will not come back.
    package func close() {
        framer.send(.close, [0x03, 0xE8])
        framer.connection.finish()
    }

    /// Goes without a word.
    package func abort() { framer.connection.abort() }

    /// Takes the first message of this type out of the inbox.
    package func take(_ type: String) -> String? {
        inbox.firstIndex { $0.contains("\"type\":\"\(type)\"") }.map { inbox.remove(at: $0) }
    }

    private func take(_ bytes: [UInt8]) {
        framer.take(bytes) { kind, payload in
            switch kind {
            case .text:
                let text = String(decoding: payload, as: UTF8.self)
                if let onMessage { onMessage(text) } else { inbox.append(text) }
            case .ping: framer.send(.pong, payload)
            case .close: code = payload.prefix(2).reduce(0) { $0 << 8 | UInt16($1) }
            case .pong: break
            }
        }
    }
}

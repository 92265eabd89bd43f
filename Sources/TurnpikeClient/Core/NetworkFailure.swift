import Traversal

/// Why a socket, a connection or a name did not work, in words for whoever has to mend it.
package struct NetworkFailure: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Reason: Hashable, Sendable {
        /// There is no route, or none for this family.
        case unreachable
        /// A host is there, and nothing listens on the port.
        case refused
        case timedOut
        /// The other side cut the connection without a goodbye.
        case reset
        case addressInUse
        case addressUnavailable
        case notPermitted
        case tooManyFiles
        case unknownName
        case nameServiceFailed
        /// The certificate is not trusted.
        case certificate
        /// The TLS handshake or a record failed otherwise.
        case tls
        /// What answers speaks another protocol.
        case notWebSocket
        /// The other side broke the protocol.
        case protocolViolation
        /// More waits to be sent than the limit.
        case overflow
        case other
    }

    package var reason: Reason
    /// What was tried, such as `TCP to 192.0.2.1:3478`.
    package var subject: String
    /// What the system or the library said, and the mend where it knows one; may be empty.
    package var detail: String
    /// The answer of a server that took no WebSocket.
    package var httpStatus: Int?

    package init(_ reason: Reason, _ subject: String, detail: String = "", httpStatus: Int? = nil) {
        self.reason = reason
        self.subject = subject
        self.detail = detail
        self.httpStatus = httpStatus
    }

    package var description: String {
        let cause = detail.isEmpty ? words : reason.speaksForItself ? detail : "\(words) (\(detail))"
        return "\(subject): \(cause)"
    }

    private var words: String {
        switch reason {
        case .unreachable: "there is no way to it from here"
        case .refused: "nothing listens there; check the port and that the server runs"
        case .timedOut: "there is no answer; a firewall may drop it, or no such host be there"
        case .reset: "the connection was cut"
        case .addressInUse: "the port is taken; choose another, or 0 for any"
        case .addressUnavailable: "this machine does not have the address"
        case .notPermitted: "the system does not allow it; a firewall of this machine, or a port below 1024"
        case .tooManyFiles: "too many files are open; raise the limit (ulimit -n)"
        case .unknownName: "there is no such name; check its spelling"
        case .nameServiceFailed: "the name service does not answer; check this machine's DNS"
        case .certificate: "the server's certificate is not trusted"
        case .tls: "no secure connection could be made; check that the port is the server's for TLS or DTLS"
        case .notWebSocket: "what answers there does not speak WebSocket; check host, port and path"
        case .protocolViolation: "the other side breaks the protocol"
        case .overflow: "more waits to be sent than the other side takes"
        case .other: "it did not work"
        }
    }
}

extension NetworkFailure.Reason {
    /// The detail has all there is to say.
    fileprivate var speaksForItself: Bool { self == .certificate }
}

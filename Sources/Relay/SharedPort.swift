import LinuxIO
import OpenSSLCrypto

/// What a connection to a port that TURN and HTTPS share is for, which nobody knows before its TLS handshake is over.
enum SharedPortUse: Equatable {
    case relay, web
    /// Nothing has come that would tell.
    case unknown
    /// Neither of the two.
    case neither

    /// - Parameters:
    ///   - applicationProtocol: What ALPN settled on; nil where the client named nothing.
    ///   - firstByte: Of the plaintext; nil where none has come.
    init(applicationProtocol: String?, firstByte: UInt8?) {
        if let applicationProtocol {
            // RFC 7443 section 3. What else there is to settle on is HTTP.
            self = TLSContext.turnProtocols.contains(applicationProtocol) ? .relay : .web
            return
        }
        // Most clients of TURN name nothing, browsers among them, and some programs that speak HTTP name nothing
        // either. In both the client speaks first.
        switch firstByte {
        case nil: self = .unknown
        // Every STUN message begins with two zero bits (RFC 8489 section 5), and a client can send nothing else first.
        case .some(0x00...0x3F): self = .relay
        // Every method begins with a letter (RFC 9110 section 16.1.2 has them all).
        case .some(UInt8(ascii: "A")...UInt8(ascii: "Z")), .some(UInt8(ascii: "a")...UInt8(ascii: "z")): self = .web
        default: self = .neither
        }
    }
}

extension SharedPortUse {
    /// What is known of a connection so far.
    init(_ session: TLSSession) {
        guard session.state == .established else {
            self = .unknown
            return
        }
        let name = session.applicationProtocol
        self.init(applicationProtocol: name, firstByte: name == nil ? session.peek() : nil)
    }
}

/// A connection to a shared port that is for HTTP. Its handshake is over, and nothing behind that has been read.
package final class WebConnection: @unchecked Sendable {  // One thread has it at a time.
    // @unchecked: whoever makes it touches it no more once it is told of, and whoever takes it is alone with it.
    private var descriptor: FileDescriptor?
    private let session: SessionTransfer

    init(_ descriptor: consuming FileDescriptor, _ session: TLSSession) {
        self.descriptor = consume descriptor
        self.session = SessionTransfer(session)
    }

    /// Gives the connection, once: the caller sees to it that the descriptor, which does not block, is closed. What
    /// nobody takes is closed here.
    package func take() -> (descriptor: Int32, session: SessionTransfer)? {
        guard let descriptor = descriptor.take() else { return nil }
        return (descriptor.release(), session)
    }
}

import OpenSSLCrypto
import Traversal

/// A TURN server by one transport, with what it takes to use it.
package struct RelayServer: Sendable, CustomStringConvertible {
    /// A name, or an address without brackets.
    package var host: String
    package var port: UInt16
    package var transport: TURNConfiguration.Transport
    package var credential: TURNCredential
    /// For TLS and DTLS.
    package var trust: ServerTrust

    package init(
        host: String,
        port: UInt16,
        transport: TURNConfiguration.Transport,
        credential: TURNCredential,
        trust: ServerTrust = .system
    ) {
        self.host = host
        self.port = port
        self.transport = transport
        self.credential = credential
        self.trust = trust
    }

    /// As RFC 7065 writes it.
    package var description: String {
        let name = host.contains(":") ? "[\(host)]" : host
        let scheme = transport == .tls || transport == .dtls ? "turns" : "turn"
        return "\(scheme):\(name):\(port)?transport=\(transport.isStream ? "tcp" : "udp")"
    }

    /// The same way to the same server, whatever the credential.
    func isSameWay(as other: RelayServer) -> Bool { description == other.description }
}

/// Why a relay is not to be had, in words for whoever has to mend it.
package struct RelayFailure: Error, Sendable, CustomStringConvertible {
    package enum Cause: Sendable, Equatable {
        /// Its name, or the way to it.
        case network(NetworkFailure)
        /// The server itself, or its silence.
        case turn(TURNFailure)
        /// None of its addresses is of a family that this machine has.
        case noFamily
        case tooLate
    }

    package var server: RelayServer
    package var cause: Cause

    package var description: String { "\(server): \(words)\(mend.isEmpty ? "" : "; \(mend)")" }

    /// Whether the same may work at another time without anybody's doing.
    package var mayPass: Bool {
        guard case .turn(let failure) = cause else {
            if case .network(let failure) = cause { return failure.reason != .certificate }
            return true
        }
        return failure.retryAfterSeconds != nil || failure.reason == .unverifiedAnswers
    }

    /// The server was not heard, rather than having said no.
    var isOfTheWay: Bool {
        guard mayPass else { return false }
        guard case .turn(let failure) = cause else { return true }
        return !failure.isServersWord
    }

    private var words: String {
        switch cause {
        case .network(let failure): "\(failure)"
        case .turn(let failure): "\(failure)"
        case .noFamily: "this machine has no address of its family"
        case .tooLate: "the server was not reached in time"
        }
    }

    private var mend: String {
        switch cause {
        case .network(let failure) where failure.reason == .timedOut: blocked
        case .turn(let failure):
            switch failure.reason {
            case .wrongCredentials: "check TURN_USERNAME and TURN_PASSWORD, or take fresh ones" + expiry
            case .serverSilent: blocked
            case .quotaReached: "close other allocations, or have the limit raised"
            default: ""
            }
        case .network, .noFamily, .tooLate: ""
        }
    }

    /// A time-limited username begins with the second since 1970 at which it ends, by the server's clock.
    private var expiry: String {
        guard let seconds = Int64(server.credential.username.prefix { $0 != ":" }), seconds > 1_000_000_000
        else { return "" }
        return "; these hold until \(HTTPDate.text(seconds)) by the server's clock"
    }

    private var blocked: String {
        switch transport {
        case .udp, .dtls: "where UDP is blocked, TCP or TLS may come through"
        case .tcp: "where the port is blocked, TLS on port 443 may come through"
        case .tls: "check the server's address, and the firewalls between"
        }
    }

    private var transport: TURNConfiguration.Transport { server.transport }

    /// Of several failures to reach one server, the one that says most has the highest.
    var weight: Int {
        switch cause {
        case .turn(let failure): failure.reason == .serverSilent ? 2 : 4
        case .network(let failure): failure.reason == .certificate ? 3 : failure.reason == .unreachable ? 0 : 2
        case .tooLate: 1
        case .noFamily: 0
        }
    }
}

/// What comes of one relay.
package enum RelayEvent {
    case allocated(TURNAllocation)
    /// The bytes are there for the time of the call.
    case received(UnsafeRawBufferPointer, from: Endpoint)
    case permitted([IPAddress])
    /// The server does not relay to that peer.
    case refused(IPAddress, TURNFailure)
    /// An ICMP error about what was sent to that peer.
    case peerError(Endpoint, type: UInt8, code: UInt8)
    case renewed
    /// The server does not answer, by the way there is nor by another one of the same kind. It goes on being tried.
    case silent
    /// The old credential stays.
    case renewalRefused(RelayFailure)
    /// Nothing follows. Nil: it was closed as asked.
    case ended(RelayFailure?)
}

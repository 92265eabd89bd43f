import STUN

/// What a client of a TURN server wants.
package struct TURNConfiguration: Sendable {
    package enum Transport: String, Sendable, CaseIterable {
        case udp, tcp, tls, dtls

        package var isStream: Bool { self == .tcp || self == .tls }
    }

    package enum Families: Sendable {
        case ipv4, ipv6
        /// One allocation with a relayed address of each (ADDITIONAL-ADDRESS-FAMILY); where the server has no IPv6, the
        /// other alone.
        case both
    }

    package enum Parity: Sendable {
        case even
        /// An even port whose next one is held: `TURNAllocation.reservationToken` claims it.
        case evenReservingNext
    }

    package var server: Endpoint
    package var transport: Transport
    package var credential: TURNCredential
    package var families = Families.ipv4
    package var parity: Parity?
    /// Claims a port that another allocation has reserved; excludes `parity` and `families` (RFC 8656 section 7.1).
    package var reservationToken: UInt64?
    /// Nil leaves it to the server, which grants 10 minutes as a rule.
    package var lifetimeSeconds: UInt32?
    /// Asks that relayed datagrams are not fragmented (RFC 8656 section 14.8).
    package var prohibitsFragments = false
    /// Asks for a ticket to move the allocation with, when the client's address changes (RFC 8016).
    package var wantsMobility = false
    /// Follows a redirection to a loopback address even from a server elsewhere.
    package var followsToLoopback = false
    /// Binds a channel by itself to a peer with traffic.
    package var bindsChannels = true
    package var software: String?

    package init(server: Endpoint, transport: Transport, credential: TURNCredential) {
        self.server = server
        self.transport = transport
        self.credential = credential
    }
}

/// A long-term credential, which a time-limited one is as well.
package struct TURNCredential: Sendable {
    package var username: String
    package var password: String

    package init(username: String, password: String) {
        self.username = username
        self.password = password
    }
}

/// What the server has granted.
package struct TURNAllocation: Equatable, Sendable {
    /// Where peers send to; one address, or one of each family.
    package var relayed: [Endpoint]
    /// The client as the server sees it: a server-reflexive address for free.
    package var mapped: Endpoint
    package var lifetimeSeconds: UInt32
    package var reservationToken: UInt64?
    /// The server gave a ticket, so the allocation can move to another address of the client's.
    package var isMobile: Bool

    package func has(_ family: AddressFamily) -> Bool { relayed.contains { $0.family == family } }
}

/// What a `TURNClient` wants of its caller, in order.
package enum TURNAction: Sendable {
    /// To the server: one datagram, or bytes of the stream.
    case send([UInt8])
    /// The present socket or connection is of no more use. The caller opens another to that server, from another port
    /// and by the same transport, and calls `start` once it is up.
    /// - Parameter certificateName: what the certificate is to be checked against from here on, where the server said
    ///   (ALTERNATE-DOMAIN, RFC 8489 section 10).
    case reconnect(to: Endpoint, certificateName: String?)
    case allocated(TURNAllocation)
    case received([UInt8], from: Endpoint)
    /// An ICMP error about what was sent to that peer (RFC 8656 section 18.13).
    case peerError(Endpoint, type: UInt8, code: UInt8)
    case permitted([IPAddress])
    /// The server does not relay to that peer.
    case refused(IPAddress, TURNFailure)
    case channelBound(UInt16, Endpoint)
    /// The new credential serves from here on.
    case renewed
    /// The new credential is not accepted; the old one stays.
    case renewalRefused(TURNFailure)
    /// There is nothing more to come, and nothing may be sent. Nil: it was closed as asked.
    case ended(TURNFailure?)
}

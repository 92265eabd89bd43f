import OpenSSLCrypto
import STUN
import TURN

/// How a relay is set up; what may change while it runs is in `TURN.Configuration`.
package struct RelayOptions: Sendable {
    package var workers: Int
    /// UDP addresses to listen on. Port 0 lets the kernel choose.
    package var listeners: [Endpoint]
    /// Those of the listeners, of both kinds, that are there for the second address of NAT discovery.
    package var alternates: Set<Endpoint>
    /// TCP addresses to listen on.
    package var streamListeners: [StreamAddress]
    /// What TLS sessions are made from; without it no listener may be for TLS.
    package var certificate: TLSContext?
    /// The same, for the listeners that share their port with HTTPS: its clients may name `http/1.1` too.
    package var sharedCertificate: TLSContext?
    /// UDP addresses that take DTLS alone. `listeners` take it besides what comes in the clear.
    package var dtlsListeners: [DatagramAddress]
    /// What DTLS sessions are made from; without it no listener takes DTLS.
    package var dtlsCertificate: TLSContext?
    package var relayAddresses: [RelayAddress]
    package var ports: ClosedRange<UInt16>
    /// Connections of all workers. Each worker has a limit of its own besides.
    package var connections = Int.max
    /// What all connections together may have waiting to be sent.
    package var queueBytes = Int.max

    /// The settings that the listeners come from.
    func key(of listener: Endpoint) -> String { alternates.contains(listener) ? "listen.alternate" : "listen.udp" }

    func key(of listener: StreamAddress) -> String {
        guard !listener.isTLS else { return listener.isShared ? "listen.shared" : "listen.tls" }
        return alternates.contains(listener.endpoint) ? "listen.alternate" : "listen.tcp"
    }

    package init(
        workers: Int,
        listeners: [Endpoint],
        alternates: Set<Endpoint> = [],
        streamListeners: [StreamAddress] = [],
        certificate: TLSContext? = nil,
        dtlsListeners: [DatagramAddress] = [],
        dtlsCertificate: TLSContext? = nil,
        relayAddresses: [RelayAddress],
        ports: ClosedRange<UInt16>
    ) {
        self.workers = workers
        self.listeners = listeners
        self.alternates = alternates
        self.streamListeners = streamListeners
        self.certificate = certificate
        self.dtlsListeners = dtlsListeners
        self.dtlsCertificate = dtlsCertificate
        self.relayAddresses = relayAddresses
        self.ports = ports
    }
}

/// Where clients connect to.
package struct StreamAddress: Hashable, Sendable {
    package var endpoint: Endpoint
    package var isTLS: Bool
    /// HTTPS is spoken there too, by TLS alone; `RelayEvent.web` tells of who comes for that.
    package var isShared: Bool
    /// Nobody asked for it by name: where it cannot be had, the server says so and goes without.
    package var isImplied: Bool

    package init(_ endpoint: Endpoint, isTLS: Bool, isShared: Bool = false, isImplied: Bool) {
        self.endpoint = endpoint
        self.isTLS = isTLS || isShared
        self.isShared = isShared
        self.isImplied = isImplied
    }
}

extension StreamAddress {
    /// The word for it in lists: the key of `listen` that it is of.
    package var kind: String { isShared ? "shared" : isTLS ? "tls" : "tcp" }
}

/// Where clients by DTLS send to.
package struct DatagramAddress: Hashable, Sendable {
    package var endpoint: Endpoint
    /// As in `StreamAddress`.
    package var isImplied: Bool

    package init(_ endpoint: Endpoint, isImplied: Bool) {
        self.endpoint = endpoint
        self.isImplied = isImplied
    }
}

/// An address that relays are bound to, and the one clients are told, which differs behind 1:1 NAT.
package struct RelayAddress: Hashable, Sendable {
    package var local: IPAddress
    package var advertised: IPAddress

    package init(local: IPAddress, advertised: IPAddress) {
        self.local = local
        self.advertised = advertised
    }
}

/// What the control plane tells the workers.
package enum RelayCommand: Sendable {
    /// The account store's answer to a query; nil when there is no such user.
    case learned(CredentialQuery, UserRecord?)
    /// The account store could not answer: who waits gets nothing, and asks again.
    case failed(CredentialQuery)
    /// A user is gone or disabled: his allocations end.
    case revoke(String)
    /// A user has used up the month's bytes: his allocations end.
    case overQuota(String)
    /// A user's record has changed; this is what it says.
    case changed(UserTerms)
    /// Any record may have changed. Each worker answers with `.activeUsers`.
    case forgetAllUsers
    case reconfigure(Configuration)
    /// New sessions are made from this, TLS or DTLS as it is for; those there are keep theirs.
    case renew(TLSContext)
    /// Likewise, those of connections to shared ports.
    case renewShared(TLSContext)
    /// A worker's word to another about an allocation whose client moves.
    case move(MoveMessage)
    /// List allocations from a slot on; the answer runs on the worker's thread and must not wait.
    case list(from: UInt32, @Sendable (AllocationPage) -> Void)
    /// End one allocation; the answer says whether there was one.
    case end(allocation: UInt32, generation: UInt32, @Sendable (Bool) -> Void)
    /// Publish a snapshot now.
    case publish
    /// End all allocations and the thread.
    case stop
}

/// What the workers tell the control plane. Handlers run on a worker's thread and must not wait for anything.
package enum RelayEvent: Sendable {
    case query(CredentialQuery, worker: Int)
    case allocation(AllocationEvent)
    /// Who holds allocations on a worker that has forgotten all users: the control plane says which of them still may.
    case activeUsers(Set<String>)
    /// A listener that nobody asked for by name could not be had, and why.
    case missing(Endpoint, String)
    /// Somebody has come to a shared port for HTTP. This runs on the thread of TLS handshakes.
    case web(WebConnection)
    /// Something went wrong that an operator should know of; sent at most once for each cause.
    case trouble(String)
}

/// What one worker, or all of them, have done.
package struct RelaySnapshot: Sendable {
    package var counters = Counters()
    package var allocations = 0
    package var connections = 0
    /// Of the worker that is fullest.
    package var load = EngineLoad()
    /// Requests that wait for the account store, on the worker with most of them.
    package var parked = 0
    /// Packets that came in and are neither done nor dropped yet: they wait for the account store or another worker.
    package var packetsHeld = 0
    /// How much of the last second a worker was busy, 0 to 1; of several, the busiest.
    package var busyShare = 0.0
    /// Time spent working since the start, over all workers.
    package var busyNanoseconds: UInt64 = 0
    /// How many snapshots a worker has published for a `.publish`. In a sum it means nothing.
    package var publications: UInt64 = 0

    package init() {}

    package mutating func add(_ other: RelaySnapshot) {
        counters.add(other.counters)
        allocations += other.allocations
        connections += other.connections
        load.takeFuller(other.load)
        parked = max(parked, other.parked)
        packetsHeld += other.packetsHeld
        busyShare = max(busyShare, other.busyShare)
        busyNanoseconds &+= other.busyNanoseconds
    }
}

/// The relay cannot run as it is set up.
package struct RelayError: Error, Sendable {
    /// The listener it is about, if it is about one.
    package let listener: Endpoint?
    /// What is wrong and the mend, in one line.
    package let reason: String

    init(_ reason: String, listener: Endpoint? = nil) {
        self.reason = reason
        self.listener = listener
    }
}

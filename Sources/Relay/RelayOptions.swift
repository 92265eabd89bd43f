import OpenSSLCrypto
import STUN
import TURN

/// How a relay is set up; what may change while it runs is in `TURN.Configuration`.
package struct RelayOptions: Sendable {
    package var workers: Int
    /// UDP addresses to listen on. Port 0 lets the kernel choose.
    package var listeners: [Endpoint]
    /// TCP addresses to listen on.
    package var streamListeners: [StreamAddress]
    /// What TLS sessions are made from; without it no listener may be for TLS.
    package var certificate: TLSContext?
    package var relayAddresses: [RelayAddress]
    package var ports: ClosedRange<UInt16>

    package init(
        workers: Int,
        listeners: [Endpoint],
        streamListeners: [StreamAddress] = [],
        certificate: TLSContext? = nil,
        relayAddresses: [RelayAddress],
        ports: ClosedRange<UInt16>
    ) {
        self.workers = workers
        self.listeners = listeners
        self.streamListeners = streamListeners
        self.certificate = certificate
        self.relayAddresses = relayAddresses
        self.ports = ports
    }
}

/// Where clients connect to.
package struct StreamAddress: Hashable, Sendable {
    package var endpoint: Endpoint
    package var isTLS: Bool
    /// Nobody asked for it by name: where it cannot be had, the server says so and goes without.
    package var isImplied: Bool

    package init(_ endpoint: Endpoint, isTLS: Bool, isImplied: Bool) {
        self.endpoint = endpoint
        self.isTLS = isTLS
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
    /// A user's record has changed.
    case forget(String)
    /// Any record may have changed. Each worker answers with `.activeUsers`.
    case forgetAllUsers
    case reconfigure(Configuration)
    /// New TLS sessions are made from this; those there are keep theirs.
    case renew(TLSContext)
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
    case missing(StreamAddress, String)
    /// Something went wrong that an operator should know of; sent at most once for each cause.
    case trouble(String)
}

/// What one worker, or all of them, have done.
package struct RelaySnapshot: Sendable {
    package var counters = Counters()
    package var allocations = 0
    /// Time spent working since the start, over all workers.
    package var busyNanoseconds: UInt64 = 0
    /// How many snapshots have been published; it grows by one for each `.publish`.
    package var publications: UInt64 = 0

    package init() {}

    mutating func add(_ other: RelaySnapshot) {
        counters.add(other.counters)
        allocations += other.allocations
        busyNanoseconds &+= other.busyNanoseconds
        publications = max(publications, other.publications)
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

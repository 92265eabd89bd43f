import STUN

/// No record: the end of a list, an absent index.
package let noIndex = UInt32.max

/// One relayed transport address of an allocation. An allocation has two when both families were asked for.
package struct RelayLeg: Sendable, BitwiseCopyable {
    /// What the host opened; negative when there is no leg.
    package var descriptor: Int32
    /// Where the socket is bound.
    package var local: Endpoint
    /// What the client is told: behind 1:1 NAT, the outside address.
    package var advertised: Endpoint
    package var expiryNanoseconds: UInt64

    package init(descriptor: Int32, local: Endpoint, advertised: Endpoint, expiryNanoseconds: UInt64 = 0) {
        self.descriptor = descriptor
        self.local = local
        self.advertised = advertised
        self.expiryNanoseconds = expiryNanoseconds
    }

    static let none = RelayLeg(
        descriptor: -1,
        local: Endpoint(address: IPAddress(v4: 0), port: 0),
        advertised: Endpoint(address: IPAddress(v4: 0), port: 0)
    )

    @inline(__always)
    package var isOpen: Bool { descriptor >= 0 }
}

/// An allocation (RFC 8656 section 3.2): a plain value in a slab, with no reference in it.
struct Allocation: BitwiseCopyable, Sendable {
    var tuple: FiveTuple
    var primary: RelayLeg
    var secondary: RelayLeg
    /// Which listener the client came in by; the host's number.
    var listener: UInt32
    var user: UInt32
    /// Counts the uses of this slab slot, so that an event for an earlier use can be told.
    var generation: UInt32
    var isLive: Bool
    /// Relays TCP (RFC 6062).
    var isStream: Bool
    /// Whether a packet has to ask a bucket: its allocation's or the server's.
    var isLimited = false

    var firstPermission: UInt32 = noIndex
    var firstChannel: UInt32 = noIndex
    var firstPeerConnection: UInt32 = noIndex
    var permissionCount: UInt16 = 0
    var channelCount: UInt16 = 0
    var peerConnectionCount: UInt16 = 0
    /// Of these, the ones that no client's connection is bound to.
    var unboundPeerConnections: UInt16 = 0
    /// The channel of the last packet each way: a call sends many in a row.
    var lastChannelFromClient: UInt32 = noIndex
    var lastChannelFromPeer: UInt32 = noIndex
    /// Token bucket for new peer addresses, in thousandths.
    var permissionTokens: UInt64
    var permissionTokensAtNanoseconds: UInt64

    /// The monotonic second at which the host will call `expire`.
    var timerSecond: UInt64 = .max
    /// The end that no Refresh can move: the credential's expiry and its grace.
    var hardDeadlineNanoseconds: UInt64

    /// What made the allocation and what was asked last, to answer a retransmission without a second effect.
    var allocateTransaction: TransactionID
    var allocateLifetimeSeconds: UInt32
    var reservationToken: UInt64
    var addressErrorFamily: UInt8 = 0
    var addressErrorCode: UInt16 = 0
    var lastTransaction: TransactionID
    var lastMethod: UInt16 = 0
    var lastLifetimeSeconds: UInt32 = 0

    var createdNanoseconds: UInt64
    var traffic = Traffic()
    /// What of it has been told to the control plane.
    var reported = Traffic()

    var bandwidth = Bandwidth.unlimited
    /// The bucket that goes with it.
    var fullAtTicks: UInt64 = 0
    /// The name of a mobile allocation (RFC 8016), 0 for others.
    var mobileName: UInt64 = 0
    /// How many ICMP errors the client was told of in that monotonic second.
    var errorSecond: UInt32 = 0
    var errorsTold: UInt16 = 0
    /// The user's own limit, which replaces the server's; 0 for none.
    var ownBitsPerSecond: UInt64?
}

/// What an allocation has carried.
package struct Traffic: BitwiseCopyable, Equatable, Sendable {
    package var packetsToPeers: UInt64 = 0
    package var bytesToPeers: UInt64 = 0
    package var packetsToClient: UInt64 = 0
    package var bytesToClient: UInt64 = 0
    /// Dropped, since they would have exceeded a limit of bandwidth.
    package var packetsOverBandwidth: UInt64 = 0

    package init() {}
}

/// A permission: one peer address that may send to one allocation (RFC 8656 section 9).
struct Permission: BitwiseCopyable, Sendable {
    var address: IPAddress
    var allocation: UInt32
    var next: UInt32
    /// Channels that hold on to it. It stays, expired or not, while one does, so a channel may keep its index.
    var channels: UInt32 = 0
    /// The peer is this server itself: only a live relay port may be reached there.
    var isOwnHost: Bool
    var expiryNanoseconds: UInt64
}

/// A channel: a number that stands for one peer (RFC 8656 section 12).
struct Channel: BitwiseCopyable, Sendable {
    var peer: Endpoint
    /// Where datagrams go: the peer, or the inside address of a relay of ours behind 1:1 NAT.
    var destination: Endpoint
    var allocation: UInt32
    var permission: UInt32
    var next: UInt32
    var number: UInt16
    var descriptor: Int32
    var expiryNanoseconds: UInt64
}

import STUN
import Synchronization

/// The server's side of TURN for one worker: bytes and the time go in, an answer or a verdict comes out. It reads no
/// clock and no socket; what it needs of the world it asks its `RelayHost`.
///
/// A datagram takes one of two ways. Data (ChannelData, Send indications, what peers send) goes through
/// `Engine+Forward`, which allocates nothing. Requests go through `request`, which may.
package struct Engine: ~Copyable {
    /// Replaced by `reconfigure`.
    package internal(set) var configuration: Configuration
    var ownHost: OwnHost
    package var counters = Counters()

    var allocations: Slab<Allocation>
    var permissions: Slab<Permission>
    var channels: Slab<Channel>
    var peerConnections: Slab<PeerConnection>
    var allocationByTuple = IndexTable()
    var permissionByAddress = IndexTable()
    var channelByPeer = IndexTable()
    var channelByNumber = IndexTable()
    var credentials = CredentialCache()
    var users = UserTable()
    var deletions = RecentDeletions()
    var peerConnectionByID: [UInt32: UInt32] = [:]
    /// By the number of their peer connection.
    var connectAnswers: [UInt32: ConnectAnswers] = [:]
    var effects: [StreamEffect] = []
    package let connectionIDs: ConnectionIDs

    /// Mobile allocations that are here, by their names.
    var mobiles: [UInt64: MobileAllocation] = [:]
    /// Clients that have moved here and whose allocations have not yet.
    var arrivals: [FiveTuple: Arrival] = [:]
    /// How many moves were asked for.
    var moveRequests: UInt64 = 0
    /// How many users were revoked, and who was last: workers hear of it in one order, but not at one time.
    var revocations: UInt64 = 0
    var recentlyRevoked: [String] = []

    /// The most permissions that one allocation has had, or asked for, since `takeLoad`.
    var fullestPermissions = 0

    /// The last generation given to a slab slot that was used before.
    var generations: UInt32 = 1

    /// This worker's number among those that share.
    let worker: Int
    let hash: TableHash
    let cryptography: any Cryptography
    // Whoever makes an engine keeps the host alive as long as the engine. Unsafe, since a checked reference would count
    // its uses, and packets between two relays of ours ask it.
    unowned(unsafe) let host: any RelayHost
    let replies: ReplyBudget
    let bindings: ReplyBudget
    let failures: ReplyBudget
    let quota: QuotaLedger
    /// Peer connections of each user.
    let connectionQuota: QuotaLedger
    let usage: UsageLedger
    let mobileDirectory: MobileDirectory
    let ticketKeys: TicketKeys
    var totalBandwidth: Bandwidth
    let total: TotalBandwidth
    /// The bucket in `total`.
    let totalFullAtTicks: UnsafeMutablePointer<Atomic<UInt64>>
    /// Which fourth of the allocations is looked at next.
    var usagePart: UInt32 = 0
    /// Holds the key of the request in hand until its answer is signed.
    let signingKey: UnsafeMutableRawBufferPointer

    /// What several workers share.
    package struct Shared: Sendable {
        package let replies: ReplyBudget
        package let bindings: ReplyBudget
        package let failures: ReplyBudget
        package let quota: QuotaLedger
        package let connectionQuota: QuotaLedger
        package let bandwidth: TotalBandwidth
        package let usage: UsageLedger
        let mobileDirectory: MobileDirectory
        let ticketKeys: TicketKeys

        /// - Parameter seed: random.
        package init(seed: UInt64) {
            replies = ReplyBudget(seed: seed)
            bindings = ReplyBudget(seed: seed &* 0x2545_F491_4F6C_DD1D)
            failures = ReplyBudget(seed: seed &* 0x9FB2_1C65_1E98_DF25)
            quota = QuotaLedger()
            connectionQuota = QuotaLedger()
            bandwidth = TotalBandwidth()
            usage = UsageLedger()
            mobileDirectory = MobileDirectory()
            ticketKeys = TicketKeys()
        }
    }

    package init(
        configuration: Configuration,
        shared: Shared,
        cryptography: any Cryptography,
        host: any RelayHost,
        connectionIDs: ConnectionIDs = ConnectionIDs(worker: 0, of: 1),
        worker: Int = 0
    ) {
        self.worker = worker
        self.configuration = configuration
        self.connectionIDs = connectionIDs
        ownHost = OwnHost(configuration)
        self.cryptography = cryptography
        self.host = host
        replies = shared.replies
        bindings = shared.bindings
        failures = shared.failures
        quota = shared.quota
        connectionQuota = shared.connectionQuota
        usage = shared.usage
        mobileDirectory = shared.mobileDirectory
        ticketKeys = shared.ticketKeys
        totalBandwidth = Bandwidth(bitsPerSecond: configuration.bitsPerSecondTotal)
        total = shared.bandwidth
        totalFullAtTicks = shared.bandwidth.fullAtTicks
        hash = TableHash(cryptography)
        allocations = Slab(capacity: Limits.allocationsPerWorker)
        permissions = Slab(capacity: Limits.permissionsPerWorker)
        channels = Slab(capacity: Limits.channelsPerWorker)
        peerConnections = Slab(capacity: Limits.peerConnectionsPerWorker)
        signingKey = .allocate(byteCount: 32, alignment: 8)
    }

    deinit {
        signingKey.initializeMemory(as: UInt8.self, repeating: 0)
        signingKey.deallocate()
    }

    package var allocationCount: Int { allocations.count }

    /// How full the tables are.
    package var load: EngineLoad {
        EngineLoad(
            allocations: allocations.count,
            permissions: permissions.count,
            channels: channels.count,
            fullestPermissions: fullestPermissions
        )
    }

    /// The same. What is told as the most since is counted anew from here on.
    package mutating func takeLoad() -> EngineLoad {
        defer { fullestPermissions = 0 }
        return load
    }

    /// The allocation of a client, or `noIndex`.
    @inline(__always)
    package func allocation(of tuple: FiveTuple) -> UInt32 {
        var probe = allocationByTuple.probe(hash(tuple))
        while let index = allocationByTuple.next(&probe) {
            if allocations[index].pointee.tuple == tuple { return index }
        }
        return noIndex
    }

    /// The generation of an allocation's slot, to tell whether an event is about this use of it.
    @inline(__always)
    package func isCurrent(_ allocation: UInt32, generation: UInt32) -> Bool {
        Int(allocation) < allocations.everUsed && allocations[allocation].pointee.isLive
            && allocations[allocation].pointee.generation == generation
    }

    /// How the client of an allocation is reached.
    @inline(__always)
    package func client(of allocation: UInt32) -> (listener: UInt32, tuple: FiveTuple) {
        (allocations[allocation].pointee.listener, allocations[allocation].pointee.tuple)
    }

    /// The relay socket of an allocation's leg, or -1 when there is none any more.
    @inline(__always)
    package func relayDescriptor(of allocation: UInt32, isSecondary: Bool) -> Int32 {
        guard Int(allocation) < allocations.everUsed, allocations[allocation].pointee.isLive else { return -1 }
        return isSecondary
            ? allocations[allocation].pointee.secondary.descriptor : allocations[allocation].pointee.primary.descriptor
    }

    /// Handles one STUN message of a client.
    ///
    /// - Parameters:
    ///   - bytes: the whole datagram.
    ///   - listener: the host's number of the socket it came by.
    ///   - reply: room for an answer; 1,500 bytes hold any.
    package mutating func receive(
        _ bytes: UnsafeRawBufferPointer,
        from tuple: FiveTuple,
        listener: UInt32,
        at moment: Moment,
        reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        let message: MessageView
        do throws(MalformedMessage) {
            message = try MessageView(bytes)
        } catch {
            return .drop(Self.reason(error))
        }
        switch (message.type.method, message.type.messageClass) {
        case (.send, .indication):
            return sendIndication(message, from: tuple, at: moment)
        case (.binding, .indication):
            // A keep-alive (RFC 8489 section 11): there is nothing to do and nothing to say.
            return .handled
        case (.binding, .request), (.allocate, .request), (.refresh, .request), (.createPermission, .request),
            (.channelBind, .request):
            guard isWelcome(tuple) else { return .drop(.unwantedSource) }
            let request = Request(message: message, tuple: tuple, listener: listener, moment: moment)
            return counted(
                message.type.method == .binding ? binding(request, reply) : authenticated(request, reply),
                request,
                reply
            )
        case (.connect, .request) where configuration.relaysTCP,
            (.connectionBind, .request) where configuration.relaysTCP:
            guard isWelcome(tuple) else { return .drop(.unwantedSource) }
            let request = Request(message: message, tuple: tuple, listener: listener, moment: moment)
            return counted(authenticated(request, reply), request, reply)
        case (_, .successResponse), (_, .errorResponse):
            // An answer is never answered, or two servers could talk for ever (CVE-2024-2169).
            return .drop(.unexpectedClass)
        case (.binding, _), (.allocate, _), (.refresh, _), (.createPermission, _), (.channelBind, _), (.send, _),
            (.data, _):
            return .drop(.unexpectedClass)
        default:
            return .drop(.unknownMethod)
        }
    }

    /// Counts a request once: not when it is to be given again.
    private mutating func counted(
        _ verdict: Verdict,
        _ request: Request,
        _ reply: UnsafeMutableRawBufferPointer
    ) -> Verdict {
        switch verdict {
        case .needsCredentials, .needsOwner, .arriving: return verdict
        case .reply(let length), .replyElsewhere(let length, _, _):
            counters.control.count(answer: UnsafeRawBufferPointer(reply).slice(0, length))
        case .forward, .handled, .drop, .bind: break
        }
        counters.control.count(request.method, request.tuple.transport)
        return verdict
    }

    /// Whether a request from there deserves an answer at all. A port that belongs to a service, or our own listener,
    /// means that the source was forged.
    private func isWelcome(_ tuple: FiveTuple) -> Bool { tuple.transport.isProven || isPlausible(tuple) }

    /// Whether a client can be there at all, as far as that shows without proof.
    private func isPlausible(_ tuple: FiveTuple) -> Bool {
        !Limits.isDenied(clientPort: tuple.client.port) && PeerPolicy.isHost(tuple.client.address)
            && !ownHost.isListener(tuple.client) && tuple.client != tuple.server
    }

    /// Whether an address that has proved nothing may be answered outside STUN: a DTLS client, which is asked for its
    /// cookie.
    /// - Returns: nil when it may, and the answer is taken from its budget; else why not.
    package func refusalToAnswer(_ tuple: FiveTuple, at moment: Moment) -> DropReason? {
        guard isPlausible(tuple) else { return .unwantedSource }
        let limit = configuration.unauthenticatedRepliesPerSecond
        return replies.take(tuple.client.address, limit: limit, at: moment) ? nil : .replyBudget
    }

    private static func reason(_ error: MalformedMessage) -> DropReason {
        switch error {
        case .tooShort: .tooShort
        case .notSTUN: .unknownFirstByte
        case .wrongCookie: .wrongCookie
        case .wrongFingerprint: .wrongFingerprint
        case .wrongLength, .truncatedAttribute: .malformed
        }
    }
}

/// How full one worker's tables are.
package struct EngineLoad: Sendable {
    package var allocations = 0
    package var permissions = 0
    package var channels = 0
    /// Of the allocation that has the most, or was refused more.
    package var fullestPermissions = 0

    package init() {}

    init(allocations: Int, permissions: Int, channels: Int, fullestPermissions: Int) {
        self.allocations = allocations
        self.permissions = permissions
        self.channels = channels
        self.fullestPermissions = fullestPermissions
    }

    /// Takes the fuller of the two, table by table: a limit of each worker is reached by one.
    package mutating func takeFuller(_ other: EngineLoad) {
        allocations = max(allocations, other.allocations)
        permissions = max(permissions, other.permissions)
        channels = max(channels, other.channels)
        fullestPermissions = max(fullestPermissions, other.fullestPermissions)
    }
}

/// A parsed request and where it came from.
struct Request {
    let message: MessageView
    let tuple: FiveTuple
    let listener: UInt32
    let moment: Moment

    var method: Method { message.type.method }
}

/// What becomes of a client's datagram.
package enum Verdict {
    /// The first `length` bytes of the reply buffer go back to the client.
    case reply(length: Int)
    /// The same by UDP, from another address or port of this server, or to another port of the client (RFC 5780).
    case replyElsewhere(length: Int, from: Endpoint, to: Endpoint)
    /// Part of the datagram goes to a peer.
    case forward(Forward)
    /// Done, and nobody hears of it.
    case handled
    case drop(DropReason)
    /// The account store must be asked first; the datagram is to be given again once its answer has come.
    case needsCredentials(CredentialQuery)
    /// The client's connection is to carry the data of a peer connection, if the worker that has it says so.
    case bind(ConnectionBinding)
    /// The worker that has the allocation must be asked first; likewise.
    case needsOwner(MoveRequest, worker: Int)
    /// The allocation has to be called here first (`Engine.callAllocation`); likewise.
    case arriving
}

/// Bytes of a client's datagram that go to a peer.
package struct Forward: BitwiseCopyable {
    package var allocation: UInt32
    /// The relay socket they leave by.
    package var descriptor: Int32
    package var destination: Endpoint
    /// Where they lie in the datagram.
    package var offset: Int
    package var length: Int
    /// DONT-FRAGMENT was asked for (RFC 8656 section 18.9).
    package var dontFragment: Bool
}

import LinuxIO
import OpenSSLCrypto
import TURN

/// A peer's TCP connection and, once there is one, the client's that is bound to it (RFC 6062): what comes from either
/// goes to the other as it is.
///
/// A side is read only while nothing waits to be sent to the other, so a tunnel holds what one read gave, and a source
/// whose sink is slow feels that through its own connection's window.
struct Tunnel: ~Copyable {
    let key: PeerConnectionKey
    var phase: Phase
    var peer: TunnelSide
    var client = TunnelSide(-1)
    /// Nil for a client by plain TCP.
    var tls: TLSSession?
    /// The side that has reset its connection, or whose connection is lost. What waits for the other still goes there.
    var broken: BrokenSide?
    /// Waits until a limit of bandwidth lets more pass.
    var isThrottled = false

    enum Phase {
        /// The peer has not answered yet.
        case connecting
        /// No client's connection is bound yet. What the peer sends stays in the kernel.
        case waiting
        case joined
    }

    enum BrokenSide {
        case peer, client
    }

    init(_ key: PeerConnectionKey, _ phase: Phase, peer: consuming FileDescriptor) {
        self.key = key
        self.phase = phase
        self.peer = TunnelSide(peer.release())
    }
}

/// One of the two connections of a tunnel.
struct TunnelSide: ~Copyable {
    /// Owned; -1 while there is none.
    private(set) var descriptor: Int32
    /// What has still to be sent to it.
    var queue: SendQueue
    /// It will send nothing more.
    var hasEnded = false
    /// It was told that nothing more will come.
    var isShut = false
    /// What epoll watches; empty where it does not.
    var watched: EpollEvents = []

    init(_ descriptor: Int32, _ queue: consuming SendQueue = SendQueue()) {
        self.descriptor = descriptor
        self.queue = queue
    }

    /// Closes with a reset, so that nobody takes what was cut off for whole.
    mutating func abort() {
        guard descriptor >= 0 else { return }
        TCPSocket.abort(FileDescriptor(owning: descriptor))
        descriptor = -1
    }

    deinit { if descriptor >= 0 { _ = FileDescriptor(owning: descriptor) } }
}

/// Bounds of tunnels, with their reasons. How many there may be is in `TURN.Limits`.
enum TunnelLimits {
    /// Peers that wait to be accepted by one relayed address.
    static let backlog = 64
    /// Taken from one relayed address before others have their turn.
    static let acceptsPerTurn = 16
    /// Read from one side before others have their turn.
    static let readsPerTurn = 4
    /// Less is not read while a limit of bandwidth holds the stream back, or it would trickle. A bucket holds more.
    static let leastRead = 4_096
    /// How often streams that are held back are looked at: a bucket holds a quarter of a second.
    static let throttleNanoseconds: UInt64 = 20_000_000
}

/// The tunnels of a worker, by the numbers their engine gives them.
struct TunnelTable: ~Copyable {
    private let records: UnsafeMutablePointer<Tunnel>
    private let used: UnsafeMutablePointer<Bool>
    /// A tunnel counts as one connection, and as two when both sides have theirs: what may wait in it is paid for with
    /// that.
    private let budget: ConnectionBudget

    init(_ budget: ConnectionBudget) {
        self.budget = budget
        records = .allocate(capacity: Limits.peerConnectionsPerWorker)
        used = .allocate(capacity: Limits.peerConnectionsPerWorker)
        used.initialize(repeating: false, count: Limits.peerConnectionsPerWorker)
    }

    deinit {
        for number in 0..<Limits.peerConnectionsPerWorker where used[number] {
            (records + number).deinitialize(count: 1)
        }
        records.deallocate()
        used.deallocate()
    }

    /// One that has the number already is closed.
    mutating func insert(_ tunnel: consuming Tunnel) {
        let number = Int(tunnel.key.number)
        if used[number] { remove(records[number].key) }
        (records + number).initialize(to: tunnel)
        used[number] = true
        budget.add(1)
    }

    /// Gives a tunnel that is held its client's side.
    mutating func join(_ key: PeerConnectionKey, _ client: consuming TunnelSide, _ tls: TLSSession?) {
        let tunnel = self[key]
        tunnel.pointee.tls = tls
        tunnel.pointee.client = client
        tunnel.pointee.phase = .joined
        budget.add(1)
    }

    /// Closes both connections.
    mutating func remove(_ key: PeerConnectionKey) {
        guard holds(key) else { return }
        budget.add(self[key].pointee.phase == .joined ? -2 : -1)
        (records + Int(key.number)).deinitialize(count: 1)
        used[Int(key.number)] = false
    }

    func holds(_ wanted: PeerConnectionKey) -> Bool {
        let number = Int(wanted.number)
        guard number < Limits.peerConnectionsPerWorker, used[number] else { return false }
        let held = records[number].key
        return held.id == wanted.id
    }

    /// Must be held.
    @inline(__always)
    subscript(key: PeerConnectionKey) -> UnsafeMutablePointer<Tunnel> { records + Int(key.number) }
}

/// TCP relays and tunnels among a worker's events: they share the mailbox's kind, and are told apart by two bits more.
/// A tunnel is named by number and CONNECTION-ID, so that no event is taken for one of a later tunnel.
extension EventSource {
    static func streamRelay(_ allocation: UInt32) -> EventSource {
        EventSource(rawValue: 1 << 62 | 1 << 60 | UInt64(allocation))
    }

    static func tunnel(_ key: PeerConnectionKey, isPeer: Bool) -> EventSource {
        EventSource(rawValue: 3 << 61 | (isPeer ? 1 << 60 : 0) | UInt64(key.number) << 32 | UInt64(key.id))
    }

    @inline(__always)
    var isStreamRelay: Bool { rawValue >> 60 == 0b0101 }
    @inline(__always)
    var isTunnel: Bool { rawValue >> 61 == 0b011 }
    var isTunnelPeer: Bool { rawValue & 1 << 60 != 0 }
    var tunnel: PeerConnectionKey {
        PeerConnectionKey(number: UInt32(truncatingIfNeeded: rawValue >> 32 & 0xFFFF), id: number)
    }
}

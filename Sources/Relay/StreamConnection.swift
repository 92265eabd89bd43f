import LinuxIO
import OpenSSLCrypto
import STUN
import TURN

/// A client that came by TCP, or by TLS over it.
struct StreamConnection: ~Copyable {
    let descriptor: FileDescriptor
    let tuple: FiveTuple
    /// Nil for a client by plain TCP.
    let tls: TLSSession?
    /// What came of a frame that is not whole yet, and what waits behind a parked request.
    var input = StreamBuffer()
    /// What the kernel has not taken yet.
    var output = SendQueue()
    /// It asks to carry the data of a peer connection, and waits to be handed over.
    var binding: ConnectionBinding?
    /// Frames are not looked at before the account store has answered, or requests sent in a row would be answered out
    /// of it.
    var isParked = false
    /// The client has sent all it will, or nothing more is wanted of it: what waits is sent, and that is the end.
    var isFinishing = false
    /// Closed unless an allocation, or a frame, comes before (cases RE-04, RE-05, TF-04).
    var deadlineNanoseconds: UInt64
    /// When it was last seen with an allocation, or came: without one it may stay a while and not for ever.
    var allocatedNanoseconds: UInt64
    /// Since when the client has not read what waits for it; `.max` while it does.
    var blockedSinceNanoseconds = UInt64.max
    /// Memory of `output` that the budget of all workers knows of.
    var queueBytesTold = 0
    /// What epoll watches.
    var watched: EpollEvents = .readable
    /// It came to a port that HTTPS shares, and may be for that.
    var isShared: Bool

    init(
        _ descriptor: consuming FileDescriptor,
        _ tuple: FiveTuple,
        tls: TLSSession?,
        isShared: Bool = false,
        nowNanoseconds: UInt64
    ) {
        self.descriptor = descriptor
        self.tuple = tuple
        self.tls = tls
        self.isShared = isShared
        deadlineNanoseconds = nowNanoseconds &+ StreamLimits.patienceNanoseconds
        allocatedNanoseconds = nowNanoseconds
    }
}

/// Bounds of streams, with their reasons.
enum StreamLimits {
    /// Connections of one worker: as many as allocations one relay address can have.
    static let connections = 16_384
    /// Of one source, an IPv4 address or an IPv6 /64: many users behind one carrier NAT, and not all there is.
    static let connectionsPerSource = 4_096
    /// To make a handshake, a first request, an allocation, the rest of a frame (RE-04, RE-05).
    static let patienceNanoseconds: UInt64 = 10_000_000_000
    /// Of a connection without an allocation, whatever it asks: long enough for a STUN client to gather its candidates
    /// and look again, too short to hold a place by a Binding now and then.
    static let withoutAllocationNanoseconds: UInt64 = 60_000_000_000
    /// Which connections are asked each second whether they have an allocation: every fourth, so that a full table
    /// holds packets up for less than a millisecond.
    static let allocationLookParts: UInt32 = 4
    /// A client that reads nothing for so long is gone, or means harm.
    static let blockedNanoseconds: UInt64 = 30_000_000_000
    /// Taken from one listener before others have their turn.
    static let acceptsPerTurn = 64
    /// Read from one connection before others have their turn.
    static let readsPerTurn = 4
    static let readBytes = 65_536
    /// What frames sent at once may have in all: a quarter of what a connection may have waiting.
    static let bytesPerSend = 65_536
    /// What those have when they are sealed: each becomes a record of its own, 22 bytes longer, or several.
    static let sealedBytes = 2 * bytesPerSend
    /// Of a connection's queue, what data may not take: some dozens of answers.
    static let replyReserveBytes = 16_384
    static let backlog = 1_024
}

/// The connections of a worker, or of the handshaker: records that do not move, and the count for each source.
struct StreamTable: ~Copyable {
    private let records: UnsafeMutablePointer<StreamConnection>
    private let used: UnsafeMutablePointer<Bool>
    private var free: [UInt32] = []
    private var sources: [UInt64: Int] = [:]
    private let capacity: Int
    private let perSource: Int
    let budget: ConnectionBudget
    private(set) var count = 0
    /// Records with a number below this have been used at least once.
    private(set) var everUsed = 0

    /// - Parameters:
    ///   - capacity: Connections in all.
    ///   - perSource: Of one source, an IPv4 address or an IPv6 /64.
    init(
        _ budget: ConnectionBudget,
        capacity: Int = StreamLimits.connections,
        perSource: Int = StreamLimits.connectionsPerSource
    ) {
        self.budget = budget
        self.capacity = capacity
        self.perSource = perSource
        records = .allocate(capacity: capacity)
        used = .allocate(capacity: capacity)
        used.initialize(repeating: false, count: capacity)
    }

    deinit {
        for number in 0..<everUsed where used[number] { (records + number).deinitialize(count: 1) }
        records.deallocate()
        used.deallocate()
    }

    /// Whether one more of that source may come.
    func admits(_ source: IPAddress) -> Bool {
        count < capacity && budget.hasRoom && sources[Self.key(source), default: 0] < perSource
    }

    /// The caller has asked `admits`.
    mutating func insert(_ connection: consuming StreamConnection) -> UInt32 {
        let number: UInt32
        if let reused = free.popLast() {
            number = reused
        } else {
            number = UInt32(everUsed)
            everUsed += 1
        }
        sources[Self.key(connection.tuple.client.address), default: 0] += 1
        (records + Int(number)).initialize(to: connection)
        used[Int(number)] = true
        count += 1
        budget.add(1)
        return number
    }

    mutating func remove(_ number: UInt32) { _ = take(number) }

    /// Gives a connection away.
    mutating func take(_ number: UInt32) -> StreamConnection {
        let key = Self.key(records[Int(number)].tuple.client.address)
        let left = sources[key, default: 1] - 1
        sources[key] = left > 0 ? left : nil
        budget.add(-1)
        budget.addQueued(0 &- records[Int(number)].queueBytesTold)
        records[Int(number)].queueBytesTold = 0
        used[Int(number)] = false
        free.append(number)
        count -= 1
        return (records + Int(number)).move()
    }

    /// Tells the budget what the queue of a connection takes.
    func noteQueue(_ number: UInt32) {
        let record = records + Int(number)
        let bytes = record.pointee.output.capacity
        guard bytes != record.pointee.queueBytesTold else { return }
        budget.addQueued(bytes &- record.pointee.queueBytesTold)
        record.pointee.queueBytesTold = bytes
    }

    func isUsed(_ number: UInt32) -> Bool { Int(number) < everUsed && used[Int(number)] }

    /// Must be used.
    @inline(__always)
    subscript(number: UInt32) -> UnsafeMutablePointer<StreamConnection> { records + Int(number) }

    private static func key(_ source: IPAddress) -> UInt64 { source.isIPv4 ? source.low : source.high }
}

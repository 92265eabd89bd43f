import STUN
import TURN

/// A client that came by DTLS, whose address has proved itself.
struct SessionRecord<Session: AnyObject> {
    let tuple: FiveTuple
    /// The worker's number of the socket it came by.
    let listener: Int
    /// Under way, or established.
    var session: Session
    /// Tells the hello of `session` from another.
    var mark: UInt64
    /// The same client beginning again, while `session` is established; it takes that one's place when it is
    /// established itself (RFC 6347 section 4.2.8).
    var successor: Session?
    var successorMark: UInt64 = 0
    /// When the handshake under way is given up.
    var handshakeDeadlineNanoseconds: UInt64
    /// When the established session is closed, unless there is an allocation.
    var idleDeadlineNanoseconds: UInt64 = .max
    /// Whether `session` has been established.
    var isEstablished = false
    fileprivate(set) var isHandshaking = true
    fileprivate(set) var isPending = false
    fileprivate(set) var isWarm = false

    /// The one whose handshake is under way.
    var candidate: Session { successor ?? session }

    init(tuple: FiveTuple, listener: Int, session: Session, mark: UInt64, handshakeDeadlineNanoseconds: UInt64) {
        self.tuple = tuple
        self.listener = listener
        self.session = session
        self.mark = mark
        self.handshakeDeadlineNanoseconds = handshakeDeadlineNanoseconds
    }
}

/// The DTLS sessions of a worker by 5-tuple: records that do not move, found by open addressing, and lists of those
/// whose handshake is under way. Looking one up allocates nothing.
struct SessionTable<Session: AnyObject>: ~Copyable {
    private let records: UnsafeMutablePointer<SessionRecord<Session>>
    private let used: UnsafeMutablePointer<Bool>
    private let capacity: Int
    private let hash: TableHash
    private var numbers = IndexTable()
    private var free: [UInt32] = []
    private var sources: [UInt64: Int] = [:]
    private(set) var count = 0
    /// Records with a number below this have been used at least once.
    private(set) var everUsed = 0
    /// Handshakes under way, the oldest first.
    private(set) var handshakes: [UInt32] = []
    /// Those of them that something has come for.
    private var pending: [UInt32] = []
    private var warm: [UInt32]
    private var nextWarm = 0

    init(hash: TableHash, capacity: Int = DTLSLimits.sessions) {
        self.hash = hash
        self.capacity = capacity
        records = .allocate(capacity: capacity)
        used = .allocate(capacity: capacity)
        used.initialize(repeating: false, count: capacity)
        warm = [UInt32](repeating: noIndex, count: DTLSLimits.warmSessions)
    }

    deinit {
        for number in 0..<everUsed where used[number] { (records + number).deinitialize(count: 1) }
        records.deallocate()
        used.deallocate()
    }

    /// The number of a client's record, or `noIndex`.
    @inline(__always)
    func find(_ tuple: FiveTuple) -> UInt32 {
        guard count > 0 else { return noIndex }
        var probe = numbers.probe(hash(tuple))
        while let number = numbers.next(&probe) {
            if records[Int(number)].tuple == tuple { return number }
        }
        return noIndex
    }

    /// Whether one more of that source may come.
    func admits(_ source: IPAddress) -> Bool {
        count < capacity && sources[Self.network(source), default: 0] < DTLSLimits.sessionsPerSource
    }

    /// Whose handshake has to end before one more of that source may begin: the oldest of the source where it has too
    /// many, else the oldest of all where there are too many.
    func handshakeInTheWay(of source: IPAddress) -> UInt32? {
        let network = Self.network(source)
        let own = handshakes.filter { Self.network(records[Int($0)].tuple.client.address) == network }
        if own.count >= DTLSLimits.handshakesPerSource { return own.first }
        return handshakes.count >= DTLSLimits.handshakes ? handshakes.first : nil
    }

    /// Takes a client with its handshake under way. The caller has asked `admits` and `find`.
    mutating func insert(_ record: SessionRecord<Session>) -> UInt32 {
        let number: UInt32
        if let reused = free.popLast() {
            number = reused
        } else {
            number = UInt32(everUsed)
            everUsed += 1
        }
        sources[Self.network(record.tuple.client.address), default: 0] += 1
        (records + Int(number)).initialize(to: record)
        used[Int(number)] = true
        numbers.insert(hash(record.tuple), number)
        count += 1
        records[Int(number)].isHandshaking = false
        beginHandshake(number)
        return number
    }

    mutating func remove(_ number: UInt32) {
        endHandshake(number)
        if let place = warm.firstIndex(of: number) { warm[place] = noIndex }
        let tuple = records[Int(number)].tuple
        let network = Self.network(tuple.client.address)
        let left = sources[network, default: 1] - 1
        sources[network] = left > 0 ? left : nil
        numbers.remove(hash(tuple), number)
        (records + Int(number)).deinitialize(count: 1)
        used[Int(number)] = false
        free.append(number)
        count -= 1
    }

    func isUsed(_ number: UInt32) -> Bool { Int(number) < everUsed && used[Int(number)] }

    /// Must be used.
    @inline(__always)
    subscript(number: UInt32) -> UnsafeMutablePointer<SessionRecord<Session>> { records + Int(number) }

    // MARK: Handshakes

    /// Puts a record behind those whose handshake is under way.
    mutating func beginHandshake(_ number: UInt32) {
        endHandshake(number)
        records[Int(number)].isHandshaking = true
        handshakes.append(number)
    }

    mutating func endHandshake(_ number: UInt32) {
        guard records[Int(number)].isHandshaking else { return }
        records[Int(number)].isHandshaking = false
        handshakes.removeAll { $0 == number }
        guard records[Int(number)].isPending else { return }
        records[Int(number)].isPending = false
        pending.removeAll { $0 == number }
    }

    /// Something has come for a handshake under way.
    mutating func notePending(_ number: UInt32) {
        guard records[Int(number)].isHandshaking, !records[Int(number)].isPending else { return }
        records[Int(number)].isPending = true
        pending.append(number)
    }

    var hasPending: Bool { !pending.isEmpty }

    /// Takes the handshake that has waited longest.
    mutating func takePending() -> UInt32? {
        guard !pending.isEmpty else { return nil }
        let number = pending.removeFirst()
        records[Int(number)].isPending = false
        return number
    }

    // MARK: Buffers

    /// Notes traffic of a session.
    /// - Returns: the one that has to give its buffers back for that, if one has.
    @inline(__always)
    mutating func noteTraffic(_ number: UInt32) -> UInt32? {
        if records[Int(number)].isWarm { return nil }
        return warmUp(number)
    }

    private mutating func warmUp(_ number: UInt32) -> UInt32? {
        let cooled = warm[nextWarm]
        warm[nextWarm] = number
        nextWarm = (nextWarm + 1) % warm.count
        records[Int(number)].isWarm = true
        guard cooled != noIndex else { return nil }
        records[Int(cooled)].isWarm = false
        return cooled
    }

    private static func network(_ source: IPAddress) -> UInt64 { source.isIPv4 ? source.low : source.high }
}

import STUN

/// How long a mapping lives without traffic (RFC 5780 section 4.6): a socket for each time is left idle, and then the
/// server is asked by another socket to answer to the idle one's outside port (RESPONSE-PORT).
extension BehaviourDiscovery {
    struct LifetimeTest {
        /// Outside addresses of the idle sockets, by number; 0 is the one that is asked for at once, to see that the
        /// server can.
        var mapped: [Int: Endpoint] = [:]
        var proberMapped: Endpoint?
        /// Requests by the prober, and which idle socket their answers go to.
        var asked: [TransactionID: Int] = [:]
        var copies: [Int: Int] = [:]
        var proved: [Int: Int] = [:]
        var alive: Set<Int> = []
        var isRunning = false
    }

    private static func socket(_ index: Int) -> Int { proberSocket + 1 + index }

    private var indices: Range<Int> { 0..<lifetimes.count + 1 }

    /// When the idle socket with that number is asked for, after it was last heard of.
    private func idleTime(_ index: Int) -> UInt64 {
        index == 0 ? Limits.second : lifetimes[index - 1] * Limits.second
    }

    /// - Returns: false when there is nothing to measure.
    mutating func beginLifetime(into actions: inout [Action]) -> Bool {
        guard anchor != nil, report.isTranslated.value == true || report.isFirewalled.value == true else {
            report.lifetime = .undetermined(
                anchor == nil ? "no server has answered" : "nothing on the way keeps a mapping, as far as is known"
            )
            endQuietly()
            return false
        }
        lifetime.isRunning = true
        open(Self.proberSocket, into: &actions)
        for index in indices { open(Self.socket(index), into: &actions) }
        return true
    }

    mutating func lifetimeOpened(_ socket: Int, now: UInt64, into actions: inout [Action]) {
        guard lifetime.isRunning, let anchor, socket > Self.proberSocket else { return }
        let index = socket - Self.proberSocket - 1
        ask(.lifetimeMapping(index), from: socket, anchor, Self.serverSchedule, now: now, into: &actions)
    }

    mutating func lifetimeMapped(_ index: Int, _ mapped: Endpoint, now: UInt64, into actions: inout [Action]) {
        lifetime.mapped[index] = mapped
        alarms[.lifetime(index)] = now.addingSaturated(idleTime(index))
    }

    /// One request for an answer to the idle socket, and a plain one beside it that shows whether the way lost it.
    mutating func probeLifetime(_ index: Int, now: UInt64, into actions: inout [Action]) {
        guard lifetime.isRunning, let anchor, let mapped = lifetime.mapped[index], !lifetime.alive.contains(index),
            isOpen(Self.socket(index))
        else { return }
        guard isOpen(Self.proberSocket) else {
            alarms[.lifetime(index)] = now.addingSaturated(Limits.lifetimeSpacing)
            return
        }
        let copies = lifetime.copies[index, default: 0]
        guard copies < Limits.lifetimeCopies else { return judgeLifetime(index, into: &actions) }
        lifetime.copies[index] = copies + 1
        let id = cryptography.randomTransaction()
        lifetime.asked[id] = index
        let bytes = binding(id) { $0.append(.responsePort, UInt32(mapped.port) << 16) }
        actions.append(.send(Self.proberSocket, to: anchor, bytes))
        let once = RetransmissionSchedule(gapsNanoseconds: [], lastWaitNanoseconds: 2 * Limits.second)
        ask(.lifetimeControl(index), from: Self.proberSocket, anchor, once, now: now, into: &actions)
        let isLast = copies + 1 == Limits.lifetimeCopies
        alarms[.lifetime(index)] = now.addingSaturated(isLast ? Limits.second : Limits.lifetimeSpacing)
    }

    mutating func lifetimeProved(_ index: Int, _ mapped: Endpoint) {
        lifetime.proberMapped = mapped
        lifetime.proved[index, default: 0] += 1
    }

    /// An answer to the prober's request: at the idle socket it shows a mapping that lives; at the prober's, a server
    /// that cannot.
    /// - Returns: whether it was one.
    mutating func takeLifetimeAnswer(
        _ message: MessageView,
        _ socket: Int,
        now: UInt64,
        into actions: inout [Action]
    ) -> Bool {
        guard let index = lifetime.asked[message.transactionID] else { return false }
        if message.type.messageClass == .errorResponse || socket == Self.proberSocket {
            lifetimeFailed("the server does not answer to another port", into: &actions)
        } else if socket == Self.socket(index), message.type.messageClass == .successResponse,
            lifetime.alive.insert(index).inserted
        {
            lifetime.asked = lifetime.asked.filter { $0.value != index }
            alarms[.lifetime(index)] = nil
            close(socket, into: &actions)
            guard index > 0 else { return true }
            let isLongest = index == lifetimes.count
            let known = NATLifetime(atLeastSeconds: lifetimes[index - 1], lessThanSeconds: nil)
            if known.atLeastSeconds > report.lifetime.value?.atLeastSeconds ?? 0 {
                report.lifetime = .determined(known)
                actions.append(.refined(report))
            }
            if isLongest { endLifetime(into: &actions) }
        }
        return true
    }

    /// Without the prober nothing can be measured, and without the first idle socket nobody knows whether the server
    /// can answer to another one. Any other leaves out its time.
    mutating func lifetimeLost(_ socket: Int, into actions: inout [Action]) {
        guard lifetime.isRunning, socket >= Self.proberSocket else { return }
        if socket <= Self.socket(0) { return lifetimeFailed("no socket could be opened", into: &actions) }
        alarms[.lifetime(socket - Self.socket(0))] = nil
    }

    /// Ends what has nothing left to wait for, as when the sockets of the longest times could not be opened.
    mutating func settleLifetime(into actions: inout [Action]) {
        let isWaiting = !alarms.isEmpty || transactions.count > 0 || sockets.values.contains(.none)
        guard lifetime.isRunning, !isWaiting else { return }
        lifetimeFailed("too few sockets could be opened, or too many packets were lost", into: &actions)
    }

    mutating func lifetimeFailed(_ reason: String, into actions: inout [Action]) {
        guard lifetime.isRunning else { return }
        if report.lifetime.value == nil { report.lifetime = .undetermined(reason) }
        actions.append(.refined(report))
        endLifetime(into: &actions)
    }

    /// All copies have gone without an answer at the idle socket.
    private mutating func judgeLifetime(_ index: Int, into actions: inout [Action]) {
        guard index > 0 else { return lifetimeFailed("the server does not answer to another port", into: &actions) }
        guard lifetime.proved[index, default: 0] >= Limits.lifetimeCopiesProved else {
            // The way was bad just then. The next longer time will tell as well, if there is one.
            if index == lifetimes.count { lifetimeFailed("too many packets were lost", into: &actions) }
            return
        }
        guard lifetime.proberMapped?.address == lifetime.mapped[index]?.address else {
            return lifetimeFailed("the NAT gives sockets different outside addresses", into: &actions)
        }
        let alive = lifetime.alive.filter { $0 > 0 }.map { lifetimes[$0 - 1] }.max() ?? 0
        report.lifetime = .determined(
            NATLifetime(atLeastSeconds: alive, lessThanSeconds: lifetimes[index - 1])
        )
        actions.append(.refined(report))
        endLifetime(into: &actions)
    }

    private mutating func endLifetime(into actions: inout [Action]) {
        lifetime = LifetimeTest()
        alarms = [:]
        _ = transactions.abandon()
        for socket in sockets.keys.sorted() where socket != 0 { close(socket, into: &actions) }
        endQuietly()
    }

    /// Nothing more is to come; socket 0 is the caller's.
    mutating func endQuietly() {
        isOver = true
        alarms = [:]
    }
}

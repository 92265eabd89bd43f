import TurnpikeClient

/// A load on a server from beginning to end, on one loop: connections, allocations and channels, then one step or a
/// search of many, and the allocations are given back.
final class LoadRun {
    private enum Phase {
        case setup
        case load
        /// Waits for what is still on its way.
        case drain
        case over
    }

    private let plan: BenchPlan
    private let network: any ClientNetwork
    private let connections: [LoadConnection]
    private let progress: ProgressLine?
    private let finish: (Result<BenchReport, Problem>) -> Void
    private var alarm: (any Alarm)?
    private var phase = Phase.setup
    private let startedAt: UInt64
    private var loadStartedAt: UInt64 = 0
    private var phaseEndsAt: UInt64 = 0
    private var begun = 0
    /// Those that are paired, in the order in which they send.
    private var active: [LoadConnection] = []
    private var nextSender = 0
    private var packet: [UInt8]
    private let run: UInt32
    private var step: LoadStep?
    private var search: RateSearch?
    private var report: BenchReport?
    private var progressAt: UInt64 = 0
    private var isCutShort = false

    /// - Parameter finish: called once, on the loop.
    init(
        _ plan: BenchPlan,
        _ server: RelayServer,
        on network: any ClientNetwork,
        progress: ProgressLine?,
        _ finish: @escaping (Result<BenchReport, Problem>) -> Void
    ) {
        (self.plan, self.network, self.progress, self.finish) = (plan, network, progress, finish)
        let contexts = SecureContexts()
        connections = (0..<plan.connections).map {
            LoadConnection($0, server, on: network, contexts: contexts)
        }
        startedAt = network.nowNanoseconds
        packet = [UInt8](repeating: 0, count: plan.packetBytes)
        var drawn: UInt32 = 0
        withUnsafeMutableBytes(of: &drawn) { network.cryptography.random($0) }
        run = drawn
        if plan.rate == .search { search = RateSearch(startingAt: Self.searchStart) }
    }

    /// The whole load on the machine's own network.
    /// - Throws: status 1 with what stood in the way, and the mend.
    static func report(
        on plan: BenchPlan,
        credential: TURNCredential,
        trust: ServerTrust,
        progress: ProgressLine?
    ) async throws -> BenchReport {
        Interruption.watch()
        defer { Interruption.unwatch() }
        let server = RelayServer(
            host: plan.host,
            port: plan.port,
            transport: plan.transport,
            credential: credential,
            trust: trust
        )
        let result: Result<BenchReport, Problem> = try await NIONetwork.job { network, finish in
            let run = LoadRun(plan, server, on: network, progress: progress, finish)
            run.start()
            return run
        }
        switch result {
        case .success(let report): return report
        case .failure(let problem):
            throw CommandError.failed(problem.message + (problem.mend.map { "; \($0)" } ?? ""))
        }
    }

    func start() {
        alarm = network.alarm { [weak self] in self?.tick() }
        phaseEndsAt = startedAt + setupTime
        for (index, connection) in connections.enumerated() {
            connection.receive = { [weak self] bytes in self?.receive(bytes, on: index) }
        }
        tick()
    }

    private func tick() {
        let now = network.nowNanoseconds
        if Interruption.isRequested, phase == .setup || phase == .load {
            isCutShort = true
            if phase == .setup { return close(now) }
            phase = .drain
        }
        switch phase {
        case .setup: setUp(now)
        case .load: load(now)
        case .drain: drain(now)
        case .over: return
        }
        guard phase != .over else { return }
        alarm?.set(at: now + (phase == .load ? Self.tickTime : Self.slowTickTime))
    }

    // MARK: Setup

    private func setUp(_ now: UInt64) {
        // Some at a time, so that a server's limits on new connections are not what is measured.
        var underWay = connections[..<begun].count { $0.state == .connecting }
        while begun < connections.count, underWay < Self.connectingAtOnce, now < phaseEndsAt {
            connections[begun].start(now: now)
            begun += 1
            underWay += 1
        }
        show(now) { "connecting: \(self.connections.count { $0.state >= .allocated }) of \(self.connections.count)" }
        let isLate = now >= phaseEndsAt
        guard begun == connections.count || isLate, isLate || underWay == 0 else { return }
        if active.isEmpty {
            let allocated = connections.filter { $0.state == .allocated }
            guard allocated.count > 1 else { return close(now) }
            active = Array(allocated.prefix(allocated.count / 2 * 2))
            for index in stride(from: 0, to: active.count, by: 2) {
                let (one, other) = (active[index], active[index + 1])
                one.pair(with: other)
                other.pair(with: one)
            }
            phaseEndsAt = now + setupTime
            return
        }
        guard isLate || active.allSatisfy({ $0.state == .ready || $0.state == .ended }) else { return }
        active = Self.pairs(active)
        guard !active.isEmpty else { return close(now) }
        var report = BenchReport(
            plan: plan,
            connections: active.count,
            setupNanoseconds: now - startedAt,
            allocation: LatencyHistogram()
        )
        for connection in connections {
            if let time = connection.allocationNanoseconds { report.allocation.record(nanoseconds: time) }
        }
        self.report = report
        loadStartedAt = now
        begin(now)
    }

    /// Those whose partner is ready as well.
    private static func pairs(_ connections: [LoadConnection]) -> [LoadConnection] {
        stride(from: 0, to: connections.count - 1, by: 2).flatMap { index in
            let pair = [connections[index], connections[index + 1]]
            return pair.allSatisfy { $0.state == .ready } ? pair : []
        }
    }

    /// For all allocations, and again for all channels. Servers answer few strangers a second, turnpike ten.
    private var setupTime: UInt64 { Self.second * 10 + UInt64(plan.connections) * (Self.second / 5) }

    // MARK: Load

    private func begin(_ now: UInt64) {
        let rate: Double
        switch plan.rate {
        case .fixed(let packetsPerSecond): rate = Double(packetsPerSecond)
        case .search: rate = search?.rate ?? Self.searchStart
        }
        let number = UInt32(truncatingIfNeeded: report?.steps.count ?? 0)
        step = LoadStep(number: number, run: run, rate: rate, connections: connections.count, now: now)
        let end = loadStartedAt + UInt64(plan.durationSeconds) * Self.second
        phaseEndsAt = search == nil ? end : min(end, now + Self.searchStepTime)
        phase = .load
    }

    private func load(_ now: UInt64) {
        let count = step?.take(now: min(now, phaseEndsAt)) ?? 0
        for _ in 0..<count { send() }
        showLoad(now)
        guard now >= phaseEndsAt else { return }
        phase = .drain
    }

    private func send() {
        let connection = active[nextSender]
        nextSender = (nextSender + 1) % active.count
        guard connection.hasRoom else {
            step?.hold()
            return
        }
        packet.withUnsafeMutableBytes { bytes in
            step?.next(connection.number, now: network.nowNanoseconds, into: bytes)
            connection.send(UnsafeRawBufferPointer(bytes))
        }
    }

    private func receive(_ bytes: UnsafeRawBufferPointer, on connection: Int) {
        step?.receive(bytes, on: connection, now: network.nowNanoseconds)
    }

    private func drain(_ now: UInt64) {
        guard let step else { return close(now) }
        showLoad(now)
        let isComplete = step.result.received >= step.result.sent
        // On a stream, whatever waits is still going to come; it gets longer.
        let patience = plan.transport.isStream ? Self.streamPatience : Self.patience
        guard isComplete || now >= max(step.lastArrivalAt, phaseEndsAt) + patience else { return }
        report?.steps.append(step.result)
        let passed = step.result.isClean
        self.step = nil
        guard var search, !isCutShort else { return close(now) }
        search.record(passed: passed)
        self.search = search
        let end = loadStartedAt + UInt64(plan.durationSeconds) * Self.second
        // What is left has to be enough for a whole step.
        if search.isOver || now + Self.searchStepTime > end { return close(now) }
        begin(now)
    }

    // MARK: The end

    private func close(_ now: UInt64) {
        phase = .over
        alarm?.set(at: nil)
        progress?.clear()
        let problems = connections.compactMap(\.problem)
        for connection in connections { connection.close() }
        guard var report else {
            let words = isCutShort ? "interrupted before any packet was sent" : "no two connections came up in time"
            return finish(.failure(problems.first ?? Problem(.other, words)))
        }
        for problem in problems { report.failures[problem.message, default: 0] += 1 }
        report.isCutShort = isCutShort
        finish(.success(report))
    }

    // MARK: Progress

    private func showLoad(_ now: UInt64) {
        guard let step else { return }
        show(now) {
            let seconds = (now - self.loadStartedAt) / Self.second
            let result = step.result
            let time = result.latency.percentile(50).map { "  half within \(Figure.time(nanoseconds: $0))" } ?? ""
            let lost = phase == .drain ? "  lost \(Figure.count(result.lost))" : ""
            return "\(seconds) of \(plan.durationSeconds) s  \(Figure.perSecond(result.rate))"
                + "  received \(Figure.count(result.received))\(lost)\(time)"
        }
    }

    private func show(_ now: UInt64, _ text: () -> String) {
        guard let progress, now >= progressAt else { return }
        progressAt = now + Self.progressTime
        progress.show(text())
    }

    private static let second: UInt64 = 1_000_000_000
    private static let tickTime: UInt64 = 1_000_000
    private static let slowTickTime: UInt64 = 10_000_000
    private static let progressTime: UInt64 = 250_000_000
    private static let connectingAtOnce = 8
    private static let searchStart = 1_000.0
    private static let searchStepTime = 1 * second
    /// A packet that is on its way for so long after the last one is lost.
    private static let patience: UInt64 = 500_000_000
    private static let streamPatience = 3 * second
}

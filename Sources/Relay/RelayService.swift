import LinuxIO
import OpenSSLCrypto
import STUN
import Synchronization
import TURN

/// The data plane: worker threads, and the control plane's way to them.
package final class RelayService: Sendable {
    /// Where it listens, with the ports the kernel chose.
    package let listeners: [Endpoint]
    /// Likewise, by TCP.
    package let streamListeners: [StreamAddress]
    /// Likewise, by DTLS alone.
    package let dtlsListeners: [DatagramAddress]

    private let usage: UsageLedger
    private let quota: QuotaLedger
    private let pool: PortPool
    private let mailboxes: [Mailbox]
    private let snapshots: [SnapshotBox]
    private let threads: Mutex<[ThreadHandle]>
    /// Nil where TLS is not served.
    private let handshakes: HandshakeThread?
    private let sending = Mutex(())

    /// Opens the sockets and starts the threads.
    ///
    /// - Parameter onEvent: runs on the workers' threads; it must not wait.
    /// - Throws: `RelayError` when it cannot listen, with the mend.
    package init(
        _ options: RelayOptions,
        configuration: Configuration,
        onEvent: @escaping @Sendable (RelayEvent) -> Void
    ) throws(RelayError) {
        var bound = options.listeners
        var boundStreams: [StreamAddress] = []
        var boundSecured: [DatagramAddress] = []
        for endpoint in bound where endpoint.port != 0 {
            try Listener.ensureFree(endpoint, key: options.key(of: endpoint))
        }
        for address in options.streamListeners {
            do throws(RelayError) {
                if address.endpoint.port != 0 { try StreamListener.ensureFree(address, key: options.key(of: address)) }
                boundStreams.append(address)
            } catch {
                guard address.isImplied else { throw error }
                onEvent(.missing(address.endpoint, error.reason))
            }
        }
        for address in options.dtlsListeners {
            do throws(RelayError) {
                if address.endpoint.port != 0 { try Listener.ensureFree(address.endpoint, key: "listen.dtls") }
                boundSecured.append(address)
            } catch {
                guard address.isImplied else { throw error }
                onEvent(.missing(address.endpoint, error.reason))
            }
        }
        var seed: UInt64 = 0
        withUnsafeMutableBytes(of: &seed) { SecureRandom.fill($0) }
        let shared = Engine.Shared(seed: seed)
        let pool = PortPool(options.relayAddresses, options.ports)
        let connections = ConnectionBudget(limit: options.connections, queueLimitBytes: options.queueBytes)
        let allowsSegments = UDPSocket.isSegmentationSupported()

        let workerCount = max(options.workers, 1)
        let mailboxes: [Mailbox]
        do throws(SystemCallError) {
            var made: [Mailbox] = []
            for _ in 0..<workerCount { made.append(try Mailbox()) }
            mailboxes = made
        } catch {
            throw RelayError("cannot start relay workers: \(error)")
        }
        var secured = OwnedList<StreamListener>(capacity: boundStreams.count)
        for index in boundStreams.indices where boundStreams[index].isTLS {
            let listener = try StreamListener(boundStreams[index], key: options.key(of: boundStreams[index]))
            boundStreams[index].endpoint.port = listener.endpoint.port
            secured.append(listener)
        }
        var snapshots: [SnapshotBox] = []
        var workers: [WorkerBox] = []
        for number in 0..<workerCount {
            var set = OwnedList<Listener>(capacity: bound.count + boundSecured.count)
            for index in bound.indices {
                let listener = try Listener(
                    bound[index],
                    key: options.key(of: bound[index]),
                    allowsSegments: allowsSegments
                )
                // The first worker learns which port the kernel chose; the others share it.
                bound[index].port = listener.endpoint.port
                set.append(listener)
            }
            for index in boundSecured.indices {
                let wanted = boundSecured[index].endpoint
                let listener = try Listener(
                    wanted,
                    key: "listen.dtls",
                    isDTLSOnly: true,
                    allowsSegments: allowsSegments
                )
                boundSecured[index].endpoint.port = listener.endpoint.port
                set.append(listener)
            }
            var streamSet = OwnedList<StreamListener>(capacity: boundStreams.count)
            for index in boundStreams.indices where !boundStreams[index].isTLS {
                let listener = try StreamListener(boundStreams[index], key: options.key(of: boundStreams[index]))
                boundStreams[index].endpoint.port = listener.endpoint.port
                streamSet.append(listener)
            }
            let configuration = configuration.listening(
                udp: bound,
                dtls: boundSecured,
                streams: boundStreams
            )
            let worker: WorkerBox
            let snapshot = SnapshotBox()
            do {
                let host = try WorkerHost(
                    pool: pool,
                    mailboxes: mailboxes,
                    nowNanoseconds: MonotonicClock.nanoseconds(),
                    onEvent: onEvent
                )
                try host.watch(mailboxes[number].descriptor, .mailbox)
                for index in 0..<set.count {
                    try host.watch(set.pointer(index).pointee.descriptor.raw, .listener(UInt32(index)))
                }
                for index in 0..<streamSet.count {
                    try host.watch(streamSet.pointer(index).pointee.descriptor.raw, .streamListener(UInt32(index)))
                }
                let engine = Engine(
                    configuration: configuration,
                    shared: shared,
                    cryptography: try OpenSSLCryptography(),
                    host: host,
                    connectionIDs: ConnectionIDs(worker: number, of: workerCount),
                    worker: number
                )
                worker = WorkerBox(
                    try Worker(
                        number: number,
                        listeners: set,
                        streamListeners: streamSet,
                        connections: connections,
                        dtls: try DTLSClients(options.dtlsCertificate),
                        engine: engine,
                        host: host,
                        mailboxes: mailboxes,
                        published: snapshot
                    )
                )
            } catch {
                throw RelayError("cannot start relay worker \(number): \(error)")
            }
            snapshots.append(snapshot)
            workers.append(worker)
        }
        let handshakes: HandshakeThread? =
            secured.count == 0
            ? nil
            : try HandshakeThread(
                listeners: secured,
                certificates: (options.certificate, options.sharedCertificate),
                connections: connections,
                workers: mailboxes,
                onEvent: onEvent
            )
        var threads: [ThreadHandle] = []
        for (number, worker) in workers.enumerated() {
            do throws(SystemCallError) {
                threads.append(ThreadHandle(try NativeThread.start(name: "relay-\(number)") { worker.run() }))
            } catch {
                Self.end(threads, mailboxes)
                throw RelayError("cannot start relay thread \(number): \(error)")
            }
        }
        do throws(RelayError) {
            try handshakes?.start()
        } catch {
            Self.end(threads, mailboxes)
            throw error
        }
        self.handshakes = handshakes
        self.listeners = bound
        streamListeners = boundStreams
        dtlsListeners = boundSecured
        usage = shared.usage
        quota = shared.quota
        self.pool = pool
        self.mailboxes = mailboxes
        self.snapshots = snapshots
        self.threads = Mutex(threads)
    }

    package var workerCount: Int { mailboxes.count }

    /// Tells all workers.
    package func send(_ command: RelayCommand) {
        // One at a time, so that all workers hear of all commands in one order.
        sending.withLock { _ in
            for mailbox in mailboxes { mailbox.post(command) }
            switch command {
            case .renew(let context): if context.kind == .tls { handshakes?.mailbox.post(command) }
            case .renewShared: handshakes?.mailbox.post(command)
            default: break
            }
        }
    }

    /// Tells one worker, as the answer to its query.
    package func send(_ command: RelayCommand, to worker: Int) {
        guard mailboxes.indices.contains(worker) else { return }
        mailboxes[worker].post(command)
    }

    /// The sum of what the workers published last, at most a second old.
    package func snapshot() -> RelaySnapshot {
        var snapshot = snapshots.reduce(into: RelaySnapshot()) { $0.add($1.get()) }
        handshakes?.tally.add(to: &snapshot)
        return snapshot
    }

    /// What each worker published last, in their order.
    package func workerSnapshots() -> [RelaySnapshot] { snapshots.map { $0.get() } }

    /// The same, of a moment after this was called; or what there is when a worker has not answered in time.
    package func freshSnapshots(within limit: Duration) async -> [RelaySnapshot] {
        let before = workerSnapshots().map(\.publications)
        let end = ContinuousClock.now + limit
        send(.publish)
        while true {
            let snapshots = workerSnapshots()
            let isFresh = zip(snapshots, before).allSatisfy { $0.publications != $1 }
            if isFresh || ContinuousClock.now >= end || Task.isCancelled { return snapshots }
            try? await Task.sleep(for: .milliseconds(1))
        }
    }

    /// The sum of `freshSnapshots`.
    package func freshSnapshot(within limit: Duration = .seconds(1)) async -> RelaySnapshot {
        await freshSnapshots(within: limit).reduce(into: RelaySnapshot()) { $0.add($1) }
    }

    /// What users have relayed since this was asked last. An allocation is looked at once in four seconds.
    package func takeUsage() -> [UserUsage] { usage.take() }

    /// Who came close to the limit of allocations of a user since this was asked last.
    package func takeUsersNearLimit() -> [QuotaLedger.NearLimit] { quota.takeNearLimit() }

    /// How many ports of each relay address are taken, and how many there are.
    package func relayPorts() -> [(address: RelayAddress, taken: Int, total: Int)] { pool.occupancy() }

    /// Replaces the configuration of all workers. The listeners stay what they are.
    package func reconfigure(_ configuration: Configuration) {
        send(.reconfigure(configuration.listening(udp: listeners, dtls: dtlsListeners, streams: streamListeners)))
    }

    /// Ends all allocations and threads, and returns what was done in all. Later calls find nothing left to end.
    package func stop() -> RelaySnapshot {
        // First, so that no worker gets a connection that it would not look at.
        handshakes?.stop()
        send(.stop)
        let threads = threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
        for thread in threads { thread.join() }
        for mailbox in mailboxes { closeWhatWasMoving(mailbox) }
        return snapshot()
    }
}

extension Configuration {
    /// With what can only be known once the sockets are there.
    fileprivate func listening(
        udp: [Endpoint],
        dtls: [DatagramAddress],
        streams: [StreamAddress]
    ) -> Configuration {
        var configuration = self
        configuration.policy.listeners.formUnion(udp + dtls.map(\.endpoint) + streams.map(\.endpoint))
        configuration.discovery.attach(
            udp: udp,
            tcp: streams.filter { !$0.isTLS }.map(\.endpoint),
            dtls: dtls.map(\.endpoint)
        )
        return configuration
    }
}

extension RelayService {
    private static func end(_ threads: [ThreadHandle], _ mailboxes: [Mailbox]) {
        for mailbox in mailboxes { mailbox.post(.stop) }
        for thread in threads { thread.join() }
    }

    /// An allocation on its way to a worker that had ended when it came.
    private func closeWhatWasMoving(_ mailbox: Mailbox) {
        for case .move(.arrived(let moving)) in mailbox.takeAll() {
            for descriptor in moving.descriptors { _ = FileDescriptor(owning: descriptor) }
        }
    }
}

/// What a worker shows of itself.
final class SnapshotBox: Sendable {
    private let snapshot = Mutex(RelaySnapshot())

    func put(_ new: RelaySnapshot) { snapshot.withLock { $0 = new } }

    func get() -> RelaySnapshot { snapshot.withLock { $0 } }
}

/// Carries a worker to its thread.
private final class WorkerBox: @unchecked Sendable {  // Touched by its thread alone.
    // @unchecked: the thread that calls `run` is the only one that touches the worker from then on.
    private var worker: Worker

    init(_ worker: consuming Worker) { self.worker = worker }

    func run() { worker.run() }
}

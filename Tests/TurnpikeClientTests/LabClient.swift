import DataChannels
import Lab
import STUN
import Signaling
import Traversal

@testable import TurnpikeClient

/// A whole client on a host of the lab: what `P2PCoordinator` is the face of, with the lab's network under it.
final class LabClient {
    let name: String
    let host: Host
    let network: LabNetwork
    let client: PeerClient
    /// What it told, in order.
    private(set) var connected: [PeerSession] = []
    private(set) var failures: [ConnectionFailure] = []
    private(set) var disconnections: [(at: UInt64, reason: String)] = []
    /// Hears of every path, also of those before a session is open.
    private(set) var pathChanges: [(at: UInt64, isDirect: Bool)] = []
    /// Messages of all sessions' own channels.
    var onMessage: (PeerSession, Message) -> Void = { _, _ in }
    var onConnected: (PeerSession) -> Void = { _ in }
    private let executor: LabExecutor

    /// Every `Connection` has a coordinator. None of the lab's asks it for anything.
    private static let face = P2PCoordinator(Configuration())

    init(_ name: String, on host: Host, _ configuration: Configuration, names: [String: [IPAddress]], seed: UInt64)
        throws
    {
        self.name = name
        self.host = host
        network = try LabNetwork(host, seed: seed)
        network.names = names
        executor = LabExecutor(host.internet.scheduler)
        let owner = Owner()
        client = try PeerClient(
            configuration,
            network: network,
            resume: { session in { owner.client?.client.session(session)?.resumeReading() } },
            onEvent: { owner.client?.take($0) }
        )
        owner.client = self
    }

    /// The client's closures come before the client.
    // Unchecked: a lab belongs to one thread.
    private final class Owner: @unchecked Sendable {
        weak var client: LabClient?
    }

    var id: PeerID { PeerID(name) }

    var now: UInt64 { host.internet.now }

    /// - Parameter done: called when the client has started and is registered under its name.
    func start(_ done: @escaping () -> Void = {}) {
        client.start { [weak self] in
            guard let self else { return }
            client.register(id, metadata: .emptyObject) { _ in done() }
        }
    }

    var isRegistered: Bool { client.registered.contains(id) }

    /// Calls done once.
    func connect(
        to peer: String,
        _ options: ConnectOptions = .init(),
        _ done: @escaping (Result<PeerSession, ConnectionFailure>) -> Void = { _ in }
    ) { _ = client.connect(PeerID(peer), options, done) }

    func session(with peer: String) -> PeerSession? {
        client.sessions[PeerClient.SessionKey(local: id, remote: PeerID(peer))]
    }

    func isOpen(to peer: String) -> Bool { session(with: peer)?.phase == .open }

    func path(to peer: String) -> ICEPath? { session(with: peer)?.link?.agent.path }

    func isDirect(to peer: String) -> Bool { path(to: peer).map { !$0.isRelayed } ?? false }

    func isRelayed(to peer: String) -> Bool { path(to: peer)?.isRelayed ?? false }

    /// - Returns: whether it was taken over at once.
    @discardableResult
    func send(_ message: Message, to peer: String) -> Bool {
        var isTaken = false
        session(with: peer)?.send(message, on: SessionChannels.own) { isTaken = $0 == nil }
        return isTaken
    }

    var health: Health { HealthCheck(client.configuration, client: client, startFailure: nil).health }

    /// What was tried with that peer, for an issue.
    func report(on peer: String) -> String {
        guard let session = session(with: peer) else { return "\(name) has no session with \(peer)" }
        return "\(name): \(session.phase), \(session.link?.agent.report.description ?? "no link")"
    }

    // MARK: Events

    private func take(_ event: ClientEvent) {
        switch event {
        case .peerRegistered, .natChanged: break
        case .opening(let session):
            session.connection = Connection(
                session.number,
                to: session.remote,
                of: Self.face,
                path: session.link?.path,
                queue: session.ownQueue
            )
            notePath(session)
            read(session)
        case .connected(let session):
            connected.append(session)
            onConnected(session)
        case .connectionFailed(let failure): failures.append(failure)
        case .pathChanged(let session): notePath(session)
        case .disconnected(_, let reason): disconnections.append((now, reason))
        }
    }

    private func notePath(_ session: PeerSession) { pathChanges.append((now, session.isDirect)) }

    private func read(_ session: PeerSession) {
        let reader = Reader(self, session)
        Task(executorPreference: executor) { await reader.run() }
    }

    // Unchecked: the task runs on the lab's thread.
    private final class Reader: @unchecked Sendable {
        private weak var owner: LabClient?
        private let session: PeerSession

        init(_ owner: LabClient, _ session: PeerSession) { (self.owner, self.session) = (owner, session) }

        func run() async {
            let queue = session.ownQueue
            while let message = await queue.next() { owner?.onMessage(session, message) }
        }
    }
}

/// Runs the tasks of a lab as events of it, on its thread and in its time.
// Unchecked: a lab belongs to one thread, and so does all that resumes these tasks.
private final class LabExecutor: TaskExecutor, @unchecked Sendable {
    private let scheduler: Scheduler

    init(_ scheduler: Scheduler) { self.scheduler = scheduler }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        scheduler.after(nanoseconds: 0) { [self] in job.runSynchronously(on: asUnownedTaskExecutor()) }
    }
}

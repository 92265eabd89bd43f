import LinuxIO
import OpenSSLCrypto
import Synchronization
import TURN

/// What the handshaker has done, for others to read.
final class HandshakeTally: Sendable {
    private let acceptedCount = Atomic<UInt64>(0)
    private let refusedCount = Atomic<UInt64>(0)
    private let underWayCount = Atomic<Int>(0)

    var underWay: Int {
        get { underWayCount.load(ordering: .relaxed) }
        set { underWayCount.store(newValue, ordering: .relaxed) }
    }

    func noteAccepted() { acceptedCount.wrappingAdd(1, ordering: .relaxed) }

    func noteRefused() { refusedCount.wrappingAdd(1, ordering: .relaxed) }

    func add(to snapshot: inout RelaySnapshot) {
        snapshot.counters.connectionsAccepted &+= acceptedCount.load(ordering: .relaxed)
        snapshot.counters.connectionsRefused &+= refusedCount.load(ordering: .relaxed)
        snapshot.connections += underWay
    }
}

/// The handshaker, and the thread it is on from `start` to `stop`.
final class HandshakeThread: Sendable {
    let mailbox: Mailbox
    let tally = HandshakeTally()
    private let box: HandshakerBox
    private let thread = Mutex<ThreadHandle?>(nil)

    init(
        listeners: consuming OwnedList<StreamListener>,
        certificates: (own: TLSContext?, shared: TLSContext?),
        connections: ConnectionBudget,
        workers: [Mailbox],
        onEvent: @escaping @Sendable (RelayEvent) -> Void
    ) throws(RelayError) {
        do throws(SystemCallError) {
            mailbox = try Mailbox()
            box = HandshakerBox(
                try Handshaker(
                    listeners: listeners,
                    certificates: certificates,
                    connections: connections,
                    workers: workers,
                    mailbox: mailbox,
                    tally: tally,
                    onEvent: onEvent
                )
            )
        } catch {
            throw RelayError("cannot make TLS handshakes: \(error)")
        }
    }

    func start() throws(RelayError) {
        let box = box
        do throws(SystemCallError) {
            let started = ThreadHandle(try NativeThread.start(name: "handshakes") { box.run() })
            thread.withLock { $0 = started }
        } catch {
            throw RelayError("cannot start the thread of TLS handshakes: \(error)")
        }
    }

    /// Ends the thread. What it has given to workers before, they hear of before what they are told afterwards.
    func stop() {
        mailbox.post(.stop)
        let started = thread.withLock { thread in
            defer { thread = nil }
            return thread
        }
        started?.join()
    }
}

/// Carries the handshaker to its thread.
private final class HandshakerBox: @unchecked Sendable {  // Touched by its thread alone.
    // @unchecked: the thread that calls `run` is the only one that touches the handshaker from then on.
    private var handshaker: Handshaker?

    init(_ handshaker: consuming Handshaker) { self.handshaker = consume handshaker }

    /// Once; the sockets are closed at the end.
    func run() {
        guard var taken = handshaker.take() else { return }
        taken.run()
    }
}

/// A thread that can be waited for once.
final class ThreadHandle: Sendable {
    private let thread: Mutex<NativeThread?>

    init(_ thread: consuming NativeThread) { self.thread = Mutex(thread) }

    func join() {
        let taken = thread.withLock { thread -> NativeThread? in
            let taken = thread.take()
            return taken
        }
        taken?.join()
    }
}

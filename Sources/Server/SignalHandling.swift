import ServiceLifecycle
import UnixSignals

/// What signals do: TERM and INT drain briefly and end, a second one ends at once; HUP reloads; USR1 drains and ends
/// when the last allocation is gone; USR2 reloads the certificate. When it returns, the server ends.
struct SignalHandling: Service {
    let server: TurnpikeServer
    let signals: UnixSignalsSequence

    func run() async throws {
        let (ends, end) = AsyncStream<Void>.makeStream()
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                var isStopping = false
                for await signal in signals {
                    switch signal {
                    case .sigterm, .sigint:
                        if isStopping { server.exitNow() }
                        isStopping = true
                        server.note("stopping: \(signal) received")
                        server.beginDraining(atMost: Self.briefly)
                        end.yield()
                    case .sighup:
                        server.reloadConfiguration()
                    case .sigusr1:
                        server.beginDraining(atMost: Self.drainTimeout)
                        end.yield()
                    default:
                        server.renewCertificate()
                    }
                }
            }
            tasks.addTask {
                for await _ in server.drainRequests { end.yield() }
                // The stream ends only with the task.
            }
            tasks.addTask {
                for await _ in ends {
                    while !(await server.isDrained()), !Task.isCancelled {
                        try? await Task.sleep(for: .milliseconds(50))
                    }
                    return
                }
            }
            // Whichever ends first: the drain, or the sequence of signals when the group shuts down.
            await tasks.next()
            tasks.cancelAll()
        }
    }

    /// Long enough for clients that end their calls by themselves, short enough for a restart.
    private static let briefly = Duration.seconds(1)
    /// A call may end by itself in that time; after it, clients find another relay.
    private static let drainTimeout = Duration.seconds(120)
}

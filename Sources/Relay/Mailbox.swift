import LinuxIO
import Synchronization

/// Commands on their way to a worker, and connections that other workers hand over. Posting wakes it; the worker
/// empties the box at once.
final class Mailbox: Sendable {
    private let commands = Mutex<[RelayCommand]>([])
    private let handovers = Mutex<[Handover]>([])
    private let wake: EventFD

    init() throws(SystemCallError) { wake = try EventFD() }

    var descriptor: Int32 { wake.raw }

    func post(_ command: RelayCommand) {
        commands.withLock { $0.append(command) }
        // Fails only when the counter is at its maximum, and then the worker has a signal waiting already.
        try? wake.signal()
    }

    func post(_ handover: Handover) {
        handovers.withLock { $0.append(handover) }
        try? wake.signal()
    }

    /// To be asked after `takeAll`, which quiets the signal.
    func takeHandovers() -> [Handover] {
        handovers.withLock { handovers in
            defer { handovers = [] }
            return handovers
        }
    }

    func takeAll() -> [RelayCommand] {
        _ = try? wake.drain()
        return commands.withLock { commands in
            defer { commands = [] }
            return commands
        }
    }
}

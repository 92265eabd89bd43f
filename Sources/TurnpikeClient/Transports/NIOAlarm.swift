import NIOCore

/// An alarm of an event loop. Machines set theirs anew with every packet, mostly later: the task that is scheduled
/// stays then, and looks when it runs.
final class NIOAlarm: Alarm {
    private let loop: any EventLoop
    private let body: () -> Void
    private var dueAt: UInt64?
    private var task: Scheduled<Void>?
    private var taskAt = UInt64.max

    init(_ loop: any EventLoop, _ body: @escaping () -> Void) {
        self.loop = loop
        self.body = body
    }

    func set(at timeNanoseconds: UInt64?) {
        dueAt = timeNanoseconds
        guard let timeNanoseconds else { return }
        guard task == nil || timeNanoseconds < taskAt else { return }
        task?.cancel()
        schedule(timeNanoseconds)
    }

    deinit { task?.cancel() }

    private func schedule(_ time: UInt64) {
        taskAt = time
        // An alarm that nobody holds any more does nothing.
        task = loop.assumeIsolated().scheduleTask(deadline: .uptimeNanoseconds(time)) { [weak self] in self?.fire() }
    }

    private func fire() {
        task = nil
        taskAt = .max
        guard let dueAt else { return }
        guard NIODeadline.now().uptimeNanoseconds >= dueAt else { return schedule(dueAt) }
        self.dueAt = nil
        body()
    }
}

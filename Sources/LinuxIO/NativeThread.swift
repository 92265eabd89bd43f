import CLinux

/// A thread of the operating system, for a loop that never yields.
package struct NativeThread: ~Copyable, Sendable {
    private let handle: UInt

    private init(handle: UInt) {
        self.handle = handle
    }

    /// Starts a thread that takes no signals.
    ///
    /// - Parameters:
    ///   - name: Shown by ps and top; cut to 15 bytes, the kernel's limit.
    ///   - body: Runs once; the thread ends when it returns.
    package static func start(
        name: String,
        body: @escaping @Sendable () -> Void
    ) throws(SystemCallError) -> NativeThread {
        let context = Unmanaged.passRetained(ThreadBody(run: body))
        var handle: UInt = 0
        let result = turnpike_thread_start(name, { runThreadBody($0) }, context.toOpaque(), &handle)
        guard result == 0 else {
            context.release()
            throw SystemCallError(number: 0 &- result, call: "pthread_create")
        }
        return NativeThread(handle: handle)
    }

    /// Has the calling thread give way, for as long as it lives, to threads that have not asked for this: they take its
    /// processor when they wake up, and it gets a tenth of the time where there is no more of it.
    package static func yieldToOthers() throws(SystemCallError) {
        try checked(turnpike_thread_yield_to_others(), "sched_setattr")
    }

    /// Waits for the thread to end. A value that is dropped instead leaves the thread to run on its own.
    package consuming func join() {
        // Cannot fail: the handle is joinable and this is its only join, unless a thread joins itself.
        _ = turnpike_thread_join(handle)
        discard self
    }

    deinit {
        _ = turnpike_thread_detach(handle)
    }
}

private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void

    init(run: @escaping @Sendable () -> Void) {
        self.run = run
    }
}

private func runThreadBody(_ context: UnsafeMutableRawPointer?) {
    guard let context else { return }
    Unmanaged<ThreadBody>.fromOpaque(context).takeRetainedValue().run()
}

/// Which CPUs threads run on.
package enum ThreadAffinity {
    /// The numbers of the CPUs this thread may use, in ascending order.
    package static func availableCPUs() throws(SystemCallError) -> [UInt32] {
        let count = Int(try checked(turnpike_available_cpus(nil, 0), "sched_getaffinity"))
        var cpus = [UInt32](repeating: 0, count: count)
        let found = Int(try checked(turnpike_available_cpus(&cpus, Int32(clamping: count)), "sched_getaffinity"))
        // The set may have been changed from outside between the two calls.
        return Array(cpus.prefix(found))
    }

    /// Keeps the calling thread on one CPU.
    package static func pinCurrentThread(toCPU cpu: UInt32) throws(SystemCallError) {
        try checked(turnpike_pin_thread(cpu), "sched_setaffinity")
    }
}

import Glibc
import LinuxIO
import Synchronization
import Testing

@Suite struct DescriptorTests {
    /// Tells whether this very pipe is open, by the hang-up its other end sees: numbers may be reused by other tests.
    private func isHungUp(_ readEnd: Int32) -> Bool {
        var poll = pollfd(fd: readEnd, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, 0) == 1 && poll.revents & Int16(POLLHUP) != 0
    }

    private func makePipe() throws -> (read: Int32, write: Int32) {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        return (ends[0], ends[1])
    }

    @Test func descriptorClosesAtTheEndOfItsLife() throws {
        let ends = try makePipe()
        let reader = FileDescriptor(owning: ends.read)
        #expect(!isHungUp(reader.raw))
        do {
            let writer = FileDescriptor(owning: ends.write)
            #expect(writer.raw >= 0)
        }
        #expect(isHungUp(reader.raw))
    }

    @Test func releasedDescriptorStaysOpen() throws {
        let ends = try makePipe()
        let reader = FileDescriptor(owning: ends.read)
        let raw = FileDescriptor(owning: ends.write).release()
        #expect(!isHungUp(reader.raw))
        #expect(close(raw) == 0)
        #expect(isHungUp(reader.raw))
    }

    @Test func errorNamesTheCallAndTheReason() throws {
        let epoll = try Epoll()
        let error = #expect(throws: SystemCallError.self) { try epoll.add(-1, .readable, data: 0) }
        #expect(error == SystemCallError(number: Errno.badDescriptor, call: "epoll_ctl"))
        #expect(error?.description == "epoll_ctl: Bad file descriptor (errno 9)")
    }

    @Test func epollTellsWhichDescriptorIsReady() throws {
        let epoll = try Epoll()
        let buffer = EventBuffer(capacity: 8)
        let first = try EventFD()
        let second = try EventFD()
        try epoll.add(first.raw, .readable, data: 11)
        try epoll.add(second.raw, .readable, data: UInt64.max)
        #expect(epoll.wait(into: buffer, timeoutMilliseconds: 0) == 0)

        try second.signal()
        try #require(epoll.wait(into: buffer, timeoutMilliseconds: 5_000) == 1)
        #expect(buffer[0].data == UInt64.max)
        #expect(buffer[0].events == .readable)

        try epoll.modify(second.raw, .readable, data: 22)
        try #require(epoll.wait(into: buffer, timeoutMilliseconds: 5_000) == 1)
        #expect(buffer[0].data == 22)

        try epoll.remove(second.raw)
        #expect(epoll.wait(into: buffer, timeoutMilliseconds: 0) == 0)
    }

    @Test func epollGivesNoMoreEventsThanTheBufferHolds() throws {
        let epoll = try Epoll()
        let buffer = EventBuffer(capacity: 1)
        let first = try EventFD()
        let second = try EventFD()
        for raw in [first.raw, second.raw] {
            try epoll.add(raw, .readable, data: UInt64(raw))
            try EventFD.signal(raw: raw)
        }
        #expect(epoll.wait(into: buffer, timeoutMilliseconds: 0) == 1)
    }

    @Test func signalsJoinUntilTheyAreDrained() throws {
        let event = try EventFD()
        #expect(try event.drain() == false)
        try event.signal()
        try event.signal()
        #expect(try event.drain() == true)
        #expect(try event.drain() == false)
    }

    /// Lets SIGUSR2 interrupt this thread, which the pool that runs tests would not: its handler counts, and has no
    /// SA_RESTART. Each test of this kind runs in a thread of its own, so that the mask is nobody else's.
    private static func letSignalsInterrupt() {
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in interruptions.add(1, ordering: .relaxed) }
        #expect(sigaction(SIGUSR2, &action, nil) == 0)
        var mask = sigset_t()
        sigemptyset(&mask)
        sigaddset(&mask, SIGUSR2)
        #expect(pthread_sigmask(SIG_UNBLOCK, &mask, nil) == 0)
    }

    /// Waits on an event in a thread that is interrupted every millisecond until the wait ends or the event comes.
    private func interruptedWait(
        timeoutMilliseconds: Int32,
        signalAfterInterruptions: Int?
    ) throws -> (events: Int, interruptions: Int) {
        let outcome = Atomic(Int.min)
        let waiter = Atomic(pthread_t(0))
        let event = try EventFD()
        let raw = event.raw
        let before = interruptions.load(ordering: .relaxed)
        let thread = try NativeThread.start(name: "interrupted") {
            DescriptorTests.letSignalsInterrupt()
            waiter.store(pthread_self(), ordering: .releasing)
            do {
                let epoll = try Epoll()
                try epoll.add(raw, .readable, data: 5)
                let buffer = EventBuffer(capacity: 1)
                let events = epoll.wait(into: buffer, timeoutMilliseconds: timeoutMilliseconds)
                outcome.store(events, ordering: .releasing)
            } catch {
                outcome.store(-1, ordering: .releasing)
            }
        }
        var sent = 0
        while outcome.load(ordering: .acquiring) == Int.min, sent < 5_000 {
            // The thread was not joined yet, so its handle is good even after its end.
            let handle = waiter.load(ordering: .acquiring)
            if handle != 0 { pthread_kill(handle, SIGUSR2) }
            usleep(1_000)
            sent += 1
            let count = interruptions.load(ordering: .relaxed) - before
            if let signalAfterInterruptions, count >= signalAfterInterruptions { try event.signal() }
        }
        thread.join()
        return (outcome.load(ordering: .acquiring), interruptions.load(ordering: .relaxed) - before)
    }

    @Test func signalsNeitherEndNorProlongAWait() throws {
        let ended = try interruptedWait(timeoutMilliseconds: 10_000, signalAfterInterruptions: 20)
        #expect(ended.events == 1)
        #expect(ended.interruptions >= 20)

        let start = MonotonicClock.nanoseconds()
        let expired = try interruptedWait(timeoutMilliseconds: 100, signalAfterInterruptions: nil)
        #expect(expired.events == 0)
        #expect(expired.interruptions >= 2)
        // Far more than the wait takes, far less than the signals last.
        #expect(MonotonicClock.nanoseconds() - start < 3_000_000_000)
    }
}

/// Signals handled by `DescriptorTests.letSignalsInterrupt`.
private let interruptions = Atomic(0)

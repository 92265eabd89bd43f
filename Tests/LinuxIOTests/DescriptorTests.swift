import Glibc
import LinuxIO
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

    @Test func waitOutlastsSignals() throws {
        // A handler without SA_RESTART, so that the wait is really interrupted. The signal is blocked in every thread
        // that NativeThread starts, hence sent to this one, through its handle.
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        try #require(sigaction(SIGUSR2, &action, nil) == 0)
        let waiter = pthread_self()
        let epoll = try Epoll()
        let buffer = EventBuffer(capacity: 1)
        let event = try EventFD()
        try epoll.add(event.raw, .readable, data: 5)
        let raw = event.raw
        let thread = try NativeThread.start(name: "interrupter") {
            for _ in 0..<20 {
                pthread_kill(waiter, SIGUSR2)
                usleep(1_000)
            }
            try? EventFD.signal(raw: raw)
        }
        #expect(epoll.wait(into: buffer, timeoutMilliseconds: 10_000) == 1)
        thread.join()
    }

    @Test func interruptedWaitStillEnds() throws {
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { _ in }
        try #require(sigaction(SIGUSR2, &action, nil) == 0)
        let waiter = pthread_self()
        let epoll = try Epoll()
        let buffer = EventBuffer(capacity: 1)
        let done = try EventFD()
        let raw = done.raw
        let thread = try NativeThread.start(name: "interrupter") {
            while (try? FileDescriptor.isSignalled(raw)) != true {
                pthread_kill(waiter, SIGUSR2)
                usleep(1_000)
            }
        }
        #expect(epoll.wait(into: buffer, timeoutMilliseconds: 100) == 0)
        try done.signal()
        thread.join()
    }
}

extension FileDescriptor {
    /// Whether an event descriptor has a signal, without taking it.
    static func isSignalled(_ raw: Int32) throws -> Bool {
        var poll = pollfd(fd: raw, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, 0) == 1
    }
}

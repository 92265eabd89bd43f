import Glibc
import LinuxIO
import Synchronization
import Testing

@Suite struct HostTests {
    @Test func interfacesIncludeLoopback() throws {
        let all = try Host.interfaceAddresses()
        let loopback = try #require(all.first { $0.low == Address.loopback.low && $0.isIPv4 })
        #expect(loopback.name == "lo")
        #expect(loopback.index == if_nametoindex("lo"))
        #expect(loopback.isLoopback)
        #expect(loopback.isUp)
        #expect(loopback.broadcastLow == 0)
    }

    @Test func descriptorLimitBecomesTheHardLimit() throws {
        let reported = try Host.raiseDescriptorLimit()
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        #expect(limit.rlim_cur == limit.rlim_max)
        #expect(UInt(reported) == limit.rlim_max)
    }

    @Test func randomBytesFillEverythingAndDiffer() throws {
        // More than the 256 bytes that one call is sure to give.
        var first = [UInt8](repeating: 0, count: 4_096)
        var second = first
        try first.withUnsafeMutableBytes { bytes in try Host.fillRandom(bytes) }
        try second.withUnsafeMutableBytes { bytes in try Host.fillRandom(bytes) }
        #expect(first != second)
        #expect(first.suffix(64).contains { $0 != 0 })
    }

    @Test func monotonicClockMovesForward() {
        let first = MonotonicClock.nanoseconds()
        var second = MonotonicClock.nanoseconds()
        while second == first { second = MonotonicClock.nanoseconds() }
        #expect(second > first)
    }

    @Test func wallClockIsTheTimeOfDay() {
        let before = UInt64(time(nil))
        let now = WallClock.seconds()
        #expect(now >= before && now <= UInt64(time(nil)) + 1)
    }

    @Test func threadHasItsNameAndRunsItsBodyOnce() throws {
        let name = Mutex("")
        let runs = Atomic(0)
        let thread = try NativeThread.start(name: "turnpike-worker-17") {
            var buffer = [CChar](repeating: 0, count: 17)
            if let file = fopen("/proc/thread-self/comm", "r") {
                fgets(&buffer, Int32(buffer.count), file)
                fclose(file)
            }
            let text = String(decoding: buffer.prefix { $0 > 32 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            name.withLock { $0 = text }
            runs.add(1, ordering: .relaxed)
        }
        thread.join()
        #expect(name.withLock { $0 } == "turnpike-worker")
        #expect(runs.load(ordering: .relaxed) == 1)
    }

    @Test func threadTakesNoSignals() throws {
        let blocked = Mutex<[Int32]>([])
        let thread = try NativeThread.start(name: "masked") {
            var mask = sigset_t()
            pthread_sigmask(SIG_BLOCK, nil, &mask)
            blocked.withLock { $0 = [SIGTERM, SIGHUP, SIGINT].filter { sigismember(&mask, $0) == 1 } }
        }
        thread.join()
        #expect(blocked.withLock { $0 } == [SIGTERM, SIGHUP, SIGINT])
    }

    @Test func pinnedThreadHasOneCPU() throws {
        let cpus = try ThreadAffinity.availableCPUs()
        let last = try #require(cpus.last)
        #expect(cpus == cpus.sorted() && Set(cpus).count == cpus.count)
        let seen = Mutex<[UInt32]>([])
        let thread = try NativeThread.start(name: "pinned") {
            try? ThreadAffinity.pinCurrentThread(toCPU: last)
            let own = (try? ThreadAffinity.availableCPUs()) ?? []
            seen.withLock { $0 = own }
        }
        thread.join()
        #expect(seen.withLock { $0 } == [last])
        #expect(try ThreadAffinity.availableCPUs() == cpus)
    }

    @Test func pinningToNoSuchCPUFails() {
        #expect(throws: SystemCallError(number: Errno.invalidArgument, call: "sched_setaffinity")) {
            try ThreadAffinity.pinCurrentThread(toCPU: 8_191)
        }
    }
}

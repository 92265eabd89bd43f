import Glibc

/// The system's clock as usrsctp and OpenSSL's DTLS read it, set by hand for one thread.
///
/// Both ask `gettimeofday`. The test's executable has one of its own, which the linker finds before the C library's; on
/// a thread without a virtual time it gives the true one.
package enum VirtualClock {
    /// When virtual time 0 is, in seconds since 1970: some time that has no 0 in it by chance.
    private static let origin: UInt64 = 1_700_000_000

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key, nil)
        return key
    }()

    /// Runs a body whose thread has virtual time, 0 at first.
    package static func run<Result>(_ body: () throws -> Result) rethrows -> Result {
        let outer = pthread_getspecific(key)
        var nanoseconds: UInt64 = 0
        return try withUnsafeMutablePointer(to: &nanoseconds) { pointer in
            pthread_setspecific(key, pointer)
            defer { pthread_setspecific(key, outer) }
            return try body()
        }
    }

    /// Moves this thread's virtual time, if it has one.
    package static func set(nanoseconds: UInt64) {
        pthread_getspecific(key)?.assumingMemoryBound(to: UInt64.self).pointee = nanoseconds
    }

    fileprivate static var time: timeval {
        if let virtual = pthread_getspecific(key)?.assumingMemoryBound(to: UInt64.self).pointee {
            let microseconds = virtual / 1_000
            return timeval(tv_sec: Int(origin + microseconds / 1_000_000), tv_usec: Int(microseconds % 1_000_000))
        }
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return timeval(tv_sec: now.tv_sec, tv_usec: now.tv_nsec / 1_000)
    }
}

/// Takes the place of the C library's.
@_cdecl("gettimeofday")
package func turnpikeTimeOfDay(_ time: UnsafeMutablePointer<timeval>?, _ zone: UnsafeMutableRawPointer?) -> Int32 {
    time?.pointee = VirtualClock.time
    return 0
}

import CLinux

/// Time that only moves forward, for deadlines.
package enum MonotonicClock {
    package static func nanoseconds() -> UInt64 { turnpike_monotonic_nanoseconds() }
}

/// The time of day, for nonces and logs.
package enum WallClock {
    /// Since 1970-01-01 UTC.
    package static func seconds() -> UInt64 { turnpike_wall_seconds() }
}

import TURN

/// How a worker reaches a client, as the one number that the engine keeps for it: a listener's, a
/// connection's, or that of a DTLS session.
struct ClientRoute: Equatable {
    let rawValue: UInt32

    @inline(__always)
    init(rawValue: UInt32) { self.rawValue = rawValue }

    @inline(__always)
    init(listener: Int) { rawValue = UInt32(truncatingIfNeeded: listener) }

    @inline(__always)
    init(connection: UInt32) { rawValue = connection | 1 << 31 }

    @inline(__always)
    init(session: UInt32) { rawValue = session | 1 << 30 }

    @inline(__always)
    var isSession: Bool { rawValue >> 30 == 1 }
    @inline(__always)
    var session: UInt32 { rawValue & 0x3FFF_FFFF }
    @inline(__always)
    var isConnection: Bool { rawValue >> 31 != 0 }
    @inline(__always)
    var listener: Int { Int(rawValue) }
    @inline(__always)
    var connection: UInt32 { rawValue & 0x7FFF_FFFF }
}

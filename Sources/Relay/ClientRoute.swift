import TURN

/// How a worker reaches a client, as the one number that the engine keeps for it: a listener's, or a connection's.
struct ClientRoute: Equatable {
    let rawValue: UInt32

    @inline(__always)
    init(rawValue: UInt32) { self.rawValue = rawValue }

    @inline(__always)
    init(listener: Int) { rawValue = UInt32(truncatingIfNeeded: listener) }

    @inline(__always)
    init(connection: UInt32) { rawValue = connection | 1 << 31 }

    @inline(__always)
    var isConnection: Bool { rawValue >> 31 != 0 }
    @inline(__always)
    var listener: Int { Int(rawValue) }
    @inline(__always)
    var connection: UInt32 { rawValue & 0x7FFF_FFFF }
}

/// The gateway's count of the seconds since it has started, by which a client sees that it has forgotten everything.
struct GatewayEpoch {
    private var last: (epochSeconds: UInt32, at: UInt64)?

    /// - Returns: whether the gateway has started anew since the last answer.
    mutating func note(_ epochSeconds: UInt32, by protocolInUse: PortMappingProtocol, now: UInt64) -> Bool {
        defer { last = (epochSeconds, now) }
        guard let last else { return false }
        let client = Int64(now.subtractingClamped(last.at) / Limits.second)
        let server = Int64(epochSeconds) - Int64(last.epochSeconds)
        switch protocolInUse {
        case .pcp:
            // RFC 6887 section 8.5: a second back is rounding, and both clocks may differ by a sixteenth.
            if server < -1 { return true }
            return client + 2 < server - server / 16 || server + 2 < client - client / 16
        case .natPMP, .upnp:
            // RFC 6886 section 3.6: seven eighths of the time that has passed, less two seconds.
            return server < client * 7 / 8 - 2
        }
    }
}

extension UInt64 {
    func subtractingClamped(_ other: UInt64) -> UInt64 { self > other ? self - other : 0 }
}

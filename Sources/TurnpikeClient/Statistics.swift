/// What a coordinator has done so far; `P2PCoordinator.getStats()`.
public struct Statistics: Sendable, Hashable, Codable {
    /// How attempts ended.
    public struct Performance: Sendable, Hashable, Codable {
        /// Attempts that led to a connection, in percent with two decimals, as in `83.33`; `0.00` before the first one
        /// ended.
        public var successRate: String
        /// Those that did not.
        public var failureRate: String
    }

    /// Ids that this coordinator has registered.
    public var registeredPeers: Int
    /// Connections that are open.
    public var activePeers: Int
    /// Attempts to connect, from here and from peers, that succeeded or failed.
    public var totalConnections: Int
    /// Attempts that led to a connection without a relay, at once or by an upgrade.
    public var successfulPunches: Int
    /// Attempts whose connection began over a relay.
    public var relayedConnections: Int
    /// Attempts that led to none.
    public var failedAttempts: Int
    /// Seconds since `initialize()` was called; 0 before.
    public var uptime: Int
    /// How attempts ended, in percent.
    public var performance: Performance
}

/// The counts behind `Statistics`.
struct AttemptCounts {
    var succeeded = 0
    var failed = 0
    var punched = 0
    var relayed = 0

    func statistics(registered: Int, active: Int, uptimeSeconds: Int) -> Statistics {
        let total = succeeded + failed
        return Statistics(
            registeredPeers: registered,
            activePeers: active,
            totalConnections: total,
            successfulPunches: punched,
            relayedConnections: relayed,
            failedAttempts: failed,
            uptime: uptimeSeconds,
            performance: Statistics.Performance(
                successRate: Self.percent(succeeded, of: total),
                failureRate: Self.percent(failed, of: total)
            )
        )
    }

    /// Two decimals, rounded half up.
    private static func percent(_ part: Int, of total: Int) -> String {
        guard total > 0 else { return "0.00" }
        let hundredths = (part * 20_000 + total) / (2 * total)
        let decimals = hundredths % 100
        return "\(hundredths / 100).\(decimals < 10 ? "0" : "")\(decimals)"
    }
}

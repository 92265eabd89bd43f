import Foundation
import LinuxIO
import Logging
import Relay
import STUN
import ServiceLifecycle
import Settings
import TURN

/// Says in the log when a limit is four fifths used, before it refuses anybody (case RE-20): a limit that nobody knows
/// of is found out by users. Looks once a second.
struct LimitWatching: Service {
    let server: TurnpikeServer

    func run() async throws {
        var watch = LimitWatch()
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: .seconds(1)) }
            server.watchLimits(&watch)
        }
    }
}

/// One limit and how much of it is used.
struct LimitUse: Sendable, Equatable {
    /// The configuration's key, or what docs/operations.md calls it.
    let name: String
    /// The user or address it is about, where there are several.
    let subject: String?
    let used: Int
    /// 0 for none.
    let limit: Int

    init(_ name: String, subject: String? = nil, used: Int, limit: Int) {
        self.name = name
        self.subject = subject
        self.used = used
        self.limit = limit
    }
}

/// Which limits have been told of, so that each is told of once as it fills, and at most once a minute however it
/// swings.
struct LimitWatch {
    private struct Told {
        var atSeconds: UInt64
        var isFull: Bool
    }

    private var told: [String: Told] = [:]

    /// - Parameter seconds: of a clock that only goes forward.
    /// - Returns: those to tell of now.
    mutating func news(_ uses: [LimitUse], atSeconds seconds: UInt64) -> [LimitUse] {
        var news: [LimitUse] = []
        for use in uses where use.limit > 0 {
            // One line a minute for all users together, or their names would be a way to fill the log.
            let key = use.name
            guard use.used >= use.limit - use.limit / 5 else {
                // It has to fall well below before it counts as filling again.
                if use.used < use.limit / 2 { told[key]?.isFull = false }
                continue
            }
            if let last = told[key], last.isFull || seconds &- last.atSeconds < Self.pauseSeconds { continue }
            told[key] = Told(atSeconds: seconds, isFull: use.subject == nil)
            news.append(use)
        }
        return news
    }

    private static let pauseSeconds: UInt64 = 60
}

/// What the relay's limits are used to, from one look to the next.
struct LimitSurvey {
    let relay: RelayService
    let settings: Settings
    let memory: MemoryPlan
    let allocationsTotal: Int
    let descriptorLimit: Int

    /// - Parameter bitsPerSecond: relayed of late.
    func uses(_ snapshot: RelaySnapshot, bitsPerSecond: Int) -> [LimitUse] {
        let limits = settings.limits
        let ports = relay.relayPorts()
        let taken = ports.reduce(0) { $0 + $1.taken }
        var uses = [
            LimitUse("limits.allocations_total", used: snapshot.allocations, limit: allocationsTotal),
            LimitUse(
                "limits.permissions_per_allocation",
                used: snapshot.load.fullestPermissions,
                limit: limits.permissionsPerAllocation
            ),
            LimitUse("connections", used: snapshot.connections, limit: memory.connections),
            LimitUse(
                "allocations of a worker",
                used: snapshot.load.allocations,
                limit: TURN.Limits.allocationsPerWorker
            ),
            LimitUse(
                "permissions of a worker",
                used: snapshot.load.permissions,
                limit: TURN.Limits.permissionsPerWorker
            ),
            LimitUse("channels of a worker", used: snapshot.load.channels, limit: TURN.Limits.channelsPerWorker),
            LimitUse(
                "requests waiting for the account store",
                used: snapshot.parked,
                limit: TURN.Limits.parkedRequests
            ),
            LimitUse("open files", used: taken + snapshot.connections + 64, limit: descriptorLimit),
        ]
        if limits.bpsTotal > 0 {
            uses.append(LimitUse("limits.bps_total", used: bitsPerSecond, limit: limits.bpsTotal))
        }
        return uses
    }

    /// The relay ports of each address.
    var portUses: [LimitUse] {
        relay.relayPorts().map { entry in
            LimitUse("relay ports of \(HostAddress(entry.address.local))", used: entry.taken, limit: entry.total)
        }
    }

    /// Users who have come close to their limit since this was asked last.
    func takeUserUses() -> [LimitUse] {
        relay.takeUsersNearLimit().map { user in
            LimitUse("limits.allocations_per_user", subject: user.user, used: user.held, limit: user.limit)
        }
    }
}

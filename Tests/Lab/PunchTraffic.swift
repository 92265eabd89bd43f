import STUN
import Traversal

/// What went toward the other side's NAT, and where nothing may go.
package final class PunchTraffic {
    package private(set) var total = 0
    package private(set) var longest = 0
    /// Packets to addresses that are not of the internet.
    package private(set) var forbidden = 0
    private var times: [String: [UInt64]] = [:]

    package init() {}

    package func note(_ packet: Packet, from place: String, peer: IPAddress, at time: UInt64) {
        if !PunchTarget.isAllowed(packet.destination.address) { forbidden += 1 }
        guard packet.destination.address == peer else { return }
        total += 1
        if case .datagram(let bytes) = packet.body { longest = max(longest, bytes.count) }
        times[place, default: []].append(time)
    }

    /// The most that one side has sent in any second.
    package var busiestSecond: Int {
        times.values.map { times in
            var (first, most) = (0, 0)
            for (index, time) in times.enumerated() {
                while times[first] + 1_000_000_000 <= time { first += 1 }
                most = max(most, index - first + 1)
            }
            return most
        }.max() ?? 0
    }
}

/// Successes and failures of the runs of a test.
// Unchecked: `withSeeds` and `withWorlds` run one body after the other.
package final class Tally: @unchecked Sendable {
    private var times: [Double] = []
    package private(set) var misses: [String] = []
    package var packets = 0
    package var busiest = 0

    package init() {}

    package func hit(_ seconds: Double) { times.append(seconds) }

    package func miss(_ why: String) { misses.append(why) }

    package var text: String {
        let sorted = times.sorted()
        func quantile(_ ratio: Double) -> String {
            guard !sorted.isEmpty else { return "-" }
            return String((sorted[min(sorted.count - 1, Int(Double(sorted.count) * ratio))] * 100).rounded() / 100)
        }
        let count = times.count + misses.count
        return "\(times.count) of \(count); seconds: median \(quantile(0.5)), 99 % \(quantile(0.99)), most "
            + "\(quantile(1)); packets \(packets / max(1, count)) a run, busiest second \(busiest)"
            + (misses.first.map { "\nmissed: \($0)" } ?? "")
    }
}

import Lab
import STUN
import Testing
import Traversal

/// Data both ways between two peers, as often as asked for, and what came of it.
final class Traffic {
    /// When something came, in nanoseconds, at alice and at bob; kept for `windowSeconds`.
    private(set) var arrivals: [[UInt64]] = [[], []]
    private(set) var sent = 0
    private(set) var received = 0
    private let meeting: Meeting
    private let intervalSeconds: Double
    private var isRunning = true

    init(_ meeting: Meeting, everySeconds interval: Double) {
        self.meeting = meeting
        intervalSeconds = interval
        for (index, peer) in meeting.peers.enumerated() {
            peer.onData = { [weak self] _, _ in
                guard let self else { return }
                received += 1
                arrivals[index].append(meeting.internet.now)
            }
        }
        tick()
    }

    func stop() { isRunning = false }

    private func tick() {
        guard isRunning else { return }
        for peer in meeting.peers {
            sent += 1
            peer.send("2 data")
        }
        meeting.internet.scheduler.after(seconds: intervalSeconds) { [weak self] in self?.tick() }
    }

    /// The longest time from that moment to this one in which nothing came to one of them.
    func longestGapSeconds(since start: UInt64) -> Double {
        let longest = arrivals.map { times in
            let times = [start] + times.filter { $0 > start } + [meeting.internet.now]
            return zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? 0
        }
        return Double(longest.max() ?? 0) / 1e9
    }

    /// When both had heard something again that was not on its way at that moment, in seconds from it.
    func backSeconds(since start: UInt64, besides onTheWay: UInt64 = 100 * millisecond) -> Double {
        let first = arrivals.map { times in times.first { $0 > start + onTheWay } ?? .max }
        guard let last = first.max(), last != .max else { return .infinity }
        return Double(last - start) / 1e9
    }

    func forget() { arrivals = [[], []] }
}

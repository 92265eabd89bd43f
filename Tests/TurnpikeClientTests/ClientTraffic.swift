import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// Numbered messages both ways between alice and bob, one every 20 ms, and what came of them.
final class ClientTraffic {
    /// When each came, in nanoseconds, by receiver.
    private(set) var arrivals: [String: [UInt64]] = ["alice": [], "bob": []]
    private var sent: [String: Int] = [:]
    private var expected: [String: Int] = [:]
    /// Messages that came twice, or in the wrong order.
    private(set) var misplaced = 0
    private let world: ClientWorld
    private var isRunning = true

    init(_ world: ClientWorld) {
        self.world = world
        for client in [world.alice, world.bob] {
            client.onMessage = { [weak self, unowned client] _, message in
                guard let self else { return }
                arrivals[client.name, default: []].append(client.now)
                let number = Int(message.text)
                if number != expected[client.name, default: 0] { misplaced += 1 }
                expected[client.name, default: 0] += 1
            }
        }
        tick()
    }

    /// Sends no more, and waits for what is under way.
    /// - Returns: whether all came.
    func stop(atMostSeconds limit: Double = 10) throws -> Bool {
        isRunning = false
        return try world.internet.run(
            while: { sent["alice"] != expected["bob"] || sent["bob"] != expected["alice"] },
            atMostSeconds: limit
        )
    }

    private func tick() {
        guard isRunning else { return }
        for (client, peer) in [(world.alice, "bob"), (world.bob, "alice")] {
            guard client.isOpen(to: peer) else { continue }
            client.send(Message(String(sent[client.name, default: 0])), to: peer)
            sent[client.name, default: 0] += 1
        }
        world.internet.scheduler.after(seconds: 0.02) { [weak self] in self?.tick() }
    }

    /// Something has just come to both.
    var flows: Bool {
        arrivals.values.allSatisfy { $0.last.map { $0 + 100_000_000 > world.internet.now } ?? false }
    }

    /// The longest time since that moment in which nothing came to one of them.
    func longestGapSeconds(since start: UInt64) -> Double {
        let longest = arrivals.values.map { times in
            let times = [start] + times.filter { $0 > start } + [world.internet.now]
            return zip(times, times.dropFirst()).map { $1 - $0 }.max() ?? 0
        }
        return Double(longest.max() ?? 0) / 1e9
    }
}

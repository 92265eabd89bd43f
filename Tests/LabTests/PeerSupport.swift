import Foundation
import Lab
import STUN
import Testing
import Traversal

/// Two peers, each behind what is on its side, and the two servers.
///
///     core ─┬─ turn, signaling
///           ├─ one ──── a     alice, who offers
///           └─ other ── b     bob
struct Meeting {
    let internet: Internet
    let alice: LabPeer
    let bob: LabPeer

    /// - Parameters:
    ///   - quality: of the links from the homes and servers to the internet; each gets its own draw of the delay.
    init(
        _ offerer: NATBehavior?,
        _ answerer: NATBehavior?,
        firewalls: (Firewall, Firewall) = (.stateful, .stateful),
        _ quality: LinkQuality = .access,
        options: LabPeer.Options = LabPeer.Options(),
        seed: UInt64
    ) {
        let users = Dictionary(uniqueKeysWithValues: ["alice", "bob"].map { ($0, LabPeer.password($0)) })
        internet = Internet(seed: seed) { net in
            net.relay("turn", users: users, quality)
            net.rendezvous("signaling", users: users, quality)
            for (home, host, behavior, firewall) in [
                ("one", "a", offerer, firewalls.0), ("other", "b", answerer, firewalls.1),
            ] {
                if let behavior {
                    net.nat(home, behavior, firewall: firewall, quality) { $0.host(host) }
                } else if firewall.passesUDP && firewall.filtering == .endpointIndependent {
                    net.host(host, quality)
                } else {
                    net.firewall(home, firewall, quality) { $0.host(host) }
                }
            }
        }
        alice = LabPeer(internet, "alice", on: "a", options)
        bob = LabPeer(internet, "bob", on: "b", options)
    }

    init(_ cell: NATPair, _ quality: LinkQuality = .access, options: LabPeer.Options = LabPeer.Options(), seed: UInt64)
    {
        var dice = Dice(seed: seed, for: "\(cell.offerer) and \(cell.answerer)")
        self.init(
            cell.offerer.behavior(&dice),
            cell.answerer.behavior(&dice),
            // Where there is no NAT there is nothing else in the way either.
            firewalls: (
                cell.offerer == .open ? .open : .stateful, cell.answerer == .open ? .open : .stateful
            ),
            quality,
            options: options,
            seed: seed
        )
    }

    var peers: [LabPeer] { [alice, bob] }

    /// Bob waits, and then alice connects.
    func begin(gathers: Bool = false) throws {
        bob.start(gathers: gathers)
        if gathers { alice.start(gathers: true) }
        try internet.run(seconds: 2)
        alice.connect(to: "bob")
    }

    var isConnected: Bool { peers.allSatisfy { $0.path != nil } }
    var isDirect: Bool { peers.allSatisfy(\.isDirect) }
    var isRelayed: Bool { peers.allSatisfy(\.isRelayed) }

    /// What both have tried, for an issue.
    var comment: Comment { "alice \(alice.ice.report)\nbob \(bob.ice.report)" }

    /// Alice asks, and bob's answer comes back.
    func echo(_ text: String = "0 hello", atMostSeconds limit: Double = 2) throws -> Bool {
        var isBack = false
        alice.onData = { bytes, _ in isBack = isBack || bytes == [LabPeer.answer] + Array(text.utf8).dropFirst() }
        defer { alice.onData = { _, _ in } }
        alice.send(text)
        return try internet.run(while: { !isBack }, atMostSeconds: limit)
    }
}

/// How often each case runs: the number in the environment where it is there.
///
///     LAB_RUNS=100 swift test --filter LabTests
func runs(_ usual: UInt64) -> Range<UInt64> {
    let wanted = ProcessInfo.processInfo.environment["LAB_RUNS"].flatMap { UInt64($0) }
    return 0..<(wanted ?? usual)
}

let millisecond: UInt64 = 1_000_000

/// Counts over the runs of a test, which follow one another.
// Unchecked: `withSeeds` runs one body after the other.
final class Counter: @unchecked Sendable {
    private(set) var value = 0

    func add() { value += 1 }
}

/// Measurements of the runs of a test.
// Unchecked: `withSeeds` runs one body after the other.
final class Times: @unchecked Sendable {
    private var milliseconds: [Double] = []

    func add(seconds: Double) { milliseconds.append(seconds * 1_000) }

    var count: Int { milliseconds.count }

    /// - Parameter ratio: 0.5 is the median, 1 the longest.
    func quantile(_ ratio: Double) -> Double {
        let sorted = milliseconds.sorted()
        guard !sorted.isEmpty else { return .infinity }
        return sorted[min(sorted.count - 1, Int((Double(sorted.count) * ratio).rounded(.down)))]
    }

    func text(_ what: String) -> String {
        let figures = [0.5, 0.99, 1].map { String(Int(quantile($0).rounded())) }
        return "\(what): median \(figures[0]) ms, 99 % \(figures[1]) ms, longest \(figures[2]) ms of \(count)"
    }
}

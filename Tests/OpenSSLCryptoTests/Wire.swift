import Foundation
import TestSupport

@testable import OpenSSLCrypto

/// A path between two DTLS sessions that loses, repeats, reorders and changes datagrams.
struct Wire {
    var random: SeededGenerator
    /// Of a hundred.
    var lossPercent = 0
    var repeatPercent = 0
    var delayPercent = 0
    /// Changes a datagram on its way.
    var tamper: (inout [UInt8], inout SeededGenerator) -> Void = { _, _ in }
    /// The longest datagram that went over it.
    private(set) var longestBytes = 0
    /// Every datagram, as it was sent.
    private(set) var sent: [[UInt8]] = []

    private var delayed: [(datagram: [UInt8], isForFirst: Bool)] = []

    init(seed: UInt64 = 1) { random = SeededGenerator(seed: seed) }

    /// Carries what both have to send, once.
    /// - Returns: the data that came out at each end.
    @discardableResult
    mutating func carry(_ first: DTLSSession, _ second: DTLSSession) -> (first: [[UInt8]], second: [[UInt8]]) {
        let late = delayed
        delayed = []
        var received: (first: [[UInt8]], second: [[UInt8]]) = ([], [])
        for datagram in second.takeAll() { received.first += carry(datagram, to: first, isFirst: true) }
        for datagram in first.takeAll() { received.second += carry(datagram, to: second, isFirst: false) }
        for (datagram, isForFirst) in late {
            if isForFirst {
                received.first += first.take(datagram)
            } else {
                received.second += second.take(datagram)
            }
        }
        return received
    }

    private mutating func carry(_ datagram: [UInt8], to session: DTLSSession, isFirst: Bool) -> [[UInt8]] {
        sent.append(datagram)
        longestBytes = max(longestBytes, datagram.count)
        guard !hits(lossPercent) else { return [] }
        var datagram = datagram
        tamper(&datagram, &random)
        if hits(delayPercent) {
            delayed.append((datagram, isFirst))
            return []
        }
        if hits(repeatPercent) { delayed.append((datagram, isFirst)) }
        return session.take(datagram)
    }

    private mutating func hits(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }

    /// Goes on until both are where they were to come, or `seconds` have passed.
    mutating func run(
        _ first: DTLSSession,
        _ second: DTLSSession,
        seconds: Int = 20,
        until isDone: (DTLSSession, DTLSSession) -> Bool = { $0.state != .handshaking && $1.state != .handshaking }
    ) {
        first.advance()
        second.advance()
        let clock = ContinuousClock()
        let end = clock.now + .seconds(seconds)
        while clock.now < end {
            carry(first, second)
            if isDone(first, second) { return }
            guard !first.hasOutput, !second.hasOutput else { continue }
            let waits = [first, second].compactMap(\.nextTimeoutNanoseconds)
            // The thread itself waits, for a task that does may not be resumed for a minute while many tests run.
            if delayed.isEmpty { usleep(UInt32(min(waits.min() ?? 1_000_000, 5_000_000) / 1_000)) }
            first.handleTimeout()
            second.handleTimeout()
        }
    }
}

extension DTLSSession {
    /// Takes a datagram as the network gives it, and all the data that it brings.
    func take(_ datagram: [UInt8]) -> [[UInt8]] {
        feed(datagram)
        var received: [[UInt8]] = []
        while let data = readOne() { received.append(data) }
        return received
    }
}

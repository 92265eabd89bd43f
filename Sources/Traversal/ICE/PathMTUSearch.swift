/// How long a datagram may be on one path: packetization layer path MTU discovery for datagrams (RFC 8899), with padded
/// connectivity checks as its probes.
///
/// It begins at a size that every path carries, asks for one size after the other as long as data fill the datagrams,
/// and rests where three probes in a row are lost. The size in use is confirmed from time to time, and at once when the
/// path falls silent: where probes of it are lost while shorter packets arrive, a link on the way has become narrower
/// and says nothing (a black hole), and the search begins anew at the bottom.
package struct PathMTUSearch: Hashable, Sendable {
    /// Probes of one size: how many were sent without an answer, and when the next step is due.
    private struct Trial: Hashable, Sendable {
        var count = 0
        var due: UInt64?
    }

    /// The longest datagram that is known to arrive, without the headers of IP and UDP.
    package private(set) var datagramBytes: Int

    private let baseBytes: Int
    /// Rising.
    private let sizes: [Int]
    private var growth = Trial()
    private var confirmation = Trial()
    /// No longer size is tried before.
    private var restsUntil: UInt64 = 0
    private var confirmedAt: UInt64 = 0
    /// When the confirmation under way began.
    private var askedAt: UInt64 = 0
    private var heardAt: UInt64 = 0

    /// - Parameter isIPv4: decides what is left of a link's packets beside the headers.
    package init(isIPv4: Bool) {
        baseBytes = ICELimits.datagramBytes
        datagramBytes = baseBytes
        let headers = isIPv4 ? 28 : 48
        sizes = ICELimits.probedLinkBytes.map { $0 - headers }
    }

    /// When `nextProbe` is due.
    package var deadline: UInt64? {
        switch (growth.due, confirmation.due) {
        case (let first?, let second?): min(first, second)
        case (let first, let second): first ?? second
        }
    }

    // MARK: What happens

    /// Data went out in a datagram of that length.
    /// - Returns: whether `deadline` may have come nearer.
    package mutating func noteSent(_ bytes: Int, now: UInt64) -> Bool {
        var isNearer = false
        if bytes > baseBytes, datagramBytes > baseBytes, confirmation.due == nil {
            confirmation.due = max(now, confirmedAt.addingSaturated(ICELimits.confirmationInterval))
            isNearer = true
        }
        // Longer datagrams are of use to data that fill these.
        if bytes > datagramBytes - ICELimits.slackBytes, growth.due == nil, now >= restsUntil, nextSize != nil {
            growth.due = now
            isNearer = true
        }
        return isNearer
    }

    /// The peer was heard by this path.
    package mutating func noteHeard(now: UInt64) { heardAt = max(heardAt, now) }

    /// Data went out for a while and nothing came back.
    package mutating func noteSilence(now: UInt64) {
        if datagramBytes > baseBytes, confirmation.count == 0 { confirmation.due = now }
    }

    /// A probe was answered.
    package mutating func noteAnswer(_ bytes: Int, now: UInt64) {
        heardAt = max(heardAt, now)
        guard bytes >= datagramBytes else { return }
        (confirmation, confirmedAt) = (Trial(), now)
        guard bytes > datagramBytes else { return }
        datagramBytes = bytes
        growth = Trial(count: 0, due: nextSize == nil ? nil : now)
    }

    /// The peer does not take probes.
    package mutating func noteRefusal() {
        restart()
        restsUntil = .max
    }

    /// The path is another, or may have become one.
    package mutating func restart() {
        datagramBytes = baseBytes
        (growth, confirmation, restsUntil) = (Trial(), Trial(), 0)
    }

    /// Does what is due.
    /// - Returns: the length of a probe that is to be sent now.
    package mutating func nextProbe(now: UInt64, roundTrip: UInt64) -> Int? {
        if let due = confirmation.due, now >= due, let bytes = confirm(now, roundTrip) { return bytes }
        guard let due = growth.due, now >= due, let size = nextSize else { return nil }
        guard growth.count < ICELimits.probes else {
            growth = Trial()
            restsUntil = now.addingSaturated(ICELimits.raiseInterval)
            return nil
        }
        growth.count += 1
        growth.due = now.addingSaturated(max(ICELimits.probeTime, roundTrip &* 2))
        return size
    }

    private mutating func confirm(_ now: UInt64, _ roundTrip: UInt64) -> Int? {
        if confirmation.count >= ICELimits.probes {
            if heardAt > askedAt {
                // RFC 8899 section 4.3: a black hole.
                restart()
                growth.due = now
                return nil
            }
            // Nothing arrives, long or short: that is not about the size.
            confirmation.count = 0
        }
        if confirmation.count == 0 { askedAt = now }
        confirmation.count += 1
        confirmation.due = now.addingSaturated(max(ICELimits.confirmationTime, roundTrip &* 2))
        return datagramBytes
    }

    private var nextSize: Int? { sizes.first { $0 > datagramBytes } }
}

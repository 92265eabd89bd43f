import STUN

/// Refresh requests that ended an allocation, remembered while their clients may still send them again: the second must
/// get the answer of the first, and not 437 (RFC 8656 section 8.2).
struct RecentDeletions {
    private struct Entry {
        var tuple: FiveTuple
        var transaction: TransactionID
        var untilNanoseconds: UInt64
    }

    private var entries: [Entry] = []
    private var next = 0

    mutating func remember(_ tuple: FiveTuple, _ transaction: TransactionID, at moment: Moment) {
        // 40 seconds is how long RFC 8489 section 6.2.1 has a client retransmit.
        let entry = Entry(tuple: tuple, transaction: transaction, untilNanoseconds: moment.after(seconds: 40))
        if entries.count < Limits.deletionsRemembered {
            entries.append(entry)
        } else {
            entries[next] = entry
            next = (next + 1) % Limits.deletionsRemembered
        }
    }

    func contains(_ tuple: FiveTuple, _ transaction: TransactionID, at moment: Moment) -> Bool {
        entries.contains {
            $0.transaction == transaction && $0.tuple == tuple && $0.untilNanoseconds > moment.monotonicNanoseconds
        }
    }
}

/// When a report on this side's NAT is told again, because the peer has told none of its own: the one or the other may
/// have been lost where signaling broke.
struct PunchReminder {
    private(set) var next = UInt64.max
    private var pause = ClientLimits.reminderPause
    private var left = 0

    mutating func begin(_ now: UInt64) {
        (pause, left) = (ClientLimits.reminderPause, ClientLimits.reminders)
        next = now &+ pause
    }

    mutating func end() { next = .max }

    /// - Returns: whether it is time, which then is over.
    mutating func isDue(_ now: UInt64) -> Bool {
        guard now >= next else { return false }
        left -= 1
        pause *= 2
        next = left > 0 ? now &+ pause : .max
        return true
    }
}

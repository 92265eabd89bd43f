/// Every number that bounds the guessing of ports, with its reason. Times are nanoseconds.
package enum PunchLimits {
    private static let millisecond: UInt64 = 1_000_000
    private static let second: UInt64 = 1_000_000_000

    // MARK: Manners

    /// Toward one address of all connections of this process together. In any second no more than the burst and one
    /// refill leave, which with the checks of ICE beside them stays below 200: more looks like a flood to who runs the
    /// network.
    package static let packetsPerSecond: UInt64 = 140
    package static let burstPackets: UInt64 = 40
    /// After the end of one search among many ports toward an address, before the next may begin.
    package static let searchRest = 20 * second
    /// Addresses whose packets are counted at a time: as many as connections that search, several times over.
    static let addresses = 256
    /// The longest probe, without the headers of UDP and IP.
    package static let probeBytes = 64
    /// So much of a user name fragment fits into a probe of that length.
    static let fragmentCharacters = 12
    /// Openers leave their own NAT, and end before they reach the peer's: one that hears from somebody unknown may
    /// answer, or take note. Carriers' NATs are a few hops away, so the second goes further; nil is the usual limit.
    static let hopLimits: [UInt8?] = [5, 7]

    // MARK: How many

    /// Reference figures for a NAT that gives out any of 64,512 ports: 256 sockets and 1,300 probes miss each other
    /// once in 170 times.
    static let socketsForAny = 256
    /// In a block of 2,048 ports 145 probes find one of these in 99 of 100 cases.
    static let socketsForBlock = 64
    static let socketsForPreserved = 4
    /// Of two NATs that count, each side's; the middle of them is for connections of others in between.
    static let socketsToMeet = 25
    static let aimedSocket = 20
    /// Ports that one measurement leaves open, at most.
    package static let guesses = 50
    /// Steps beyond what was measured: packets may change places on the way to the NAT.
    static let stepsBefore = 2
    static let stepsBehind = 5
    /// What lies beside the ports that were seen of a block, since a handful does not show its ends.
    static let blockMargin = 1_024
    static let anyPort: ClosedRange<UInt16> = 1_024...65_535
    /// Sockets of one search, and what a few attempts before it have left.
    static let sockets = 320
    /// Each of them is answered, since the first may be lost.
    static let hits = 3
    /// Probes that follow a hit.
    static let hitCopies = 4

    // MARK: How long

    /// Between the copies of a request to the STUN server.
    static let sampleWaits: [UInt64] = [80, 120, 200, 300, 400].map { $0 * millisecond }
    /// When a measurement goes on with what was answered.
    static let samplePatience = 400 * millisecond
    /// For the peer's word that it has opened its ports.
    static let answerTime = 2 * second
    static let longAnswerTime = 2 * answerTime
    /// Beyond the way there and back: when a message that is not answered is taken for lost, and told again. The peer
    /// may have to measure first.
    static let messagePatience = samplePatience + 150 * millisecond
    static let searchTime = 10 * second
    static let blockTime = 4 * second
    /// For a handful of ports, before they are measured anew.
    static let guessTime = 450 * millisecond
    static let guessAttempts = 6
    static let meetingTime = 800 * millisecond
    static let meetingAttempts = 8
    /// Two turns of each side.
    static let fixedAttempts = 4
    /// Between two passes over a handful of ports, and between the packets of one opener among a few.
    static let passPause = 80 * millisecond
    static let openerPause = 150 * millisecond
    /// Among many: a refresh meets probes that were lost on the way.
    static let searchRefresh = 2_500 * millisecond
    /// From the first hit on, for what is still on its way.
    static let lingerTime = 2 * second
    /// A search whose other side says nothing more.
    static let silence = 14 * second
}

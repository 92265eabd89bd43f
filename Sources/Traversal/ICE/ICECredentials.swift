import STUN

/// One side's user name fragment and password of one session (RFC 8445 section 5.3).
package struct ICECredentials: Hashable, Sendable {
    package var usernameFragment: String
    package var password: String

    /// - Throws: `ICEError.credentials` when a part is shorter or longer than RFC 8839 section 5.4 allows, or has
    ///   characters other than its ice-char.
    package init(usernameFragment: String, password: String) throws(ICEError) {
        guard CandidateLine.isToken(usernameFragment, ICELimits.usernameFragmentCharacters),
            CandidateLine.isToken(password, ICELimits.passwordCharacters)
        else { throw .credentials }
        self.usernameFragment = usernameFragment
        self.password = password
    }

    /// RFC 8445 section 5.3 wants 24 and 128 random bits at least; these are 48 and 144.
    init(random cryptography: any Cryptography) {
        usernameFragment = Self.characters(8, cryptography)
        password = Self.characters(24, cryptography)
    }

    private static func characters(_ count: Int, _ cryptography: any Cryptography) -> String {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBytes { cryptography.random($0) }
        return String(decoding: bytes.map { alphabet[Int($0 & 63)] }, as: UTF8.self)
    }

    /// Ice-char; 64 of them, so that a byte's six bits pick one evenly.
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
}

/// What the peer's description says of its agent.
package struct ICERemoteParameters: Hashable, Sendable {
    package var credentials: ICECredentials
    /// `a=ice-lite`: it answers checks and makes none (RFC 8445 section 2.5).
    package var isLite: Bool
    /// `renomination` among its `a=ice-options`: of several nominations it follows the one with the highest number.
    package var supportsRenomination: Bool
    /// `Self.padding` among its `a=ice-options`: it answers checks with PADDING, so that they may ask what the path
    /// carries. To others the attribute is one that they have to understand and do not (RFC 8489 section 14).
    package var takesPadding = false
    /// The peer's `a=ice-pacing` in nanoseconds; nil where it says nothing (RFC 8839 section 5.5).
    package var pacing: UInt64?

    /// As a description has them: the tokens of `a=ice-options`, and the milliseconds of `a=ice-pacing`.
    package init(
        credentials: ICECredentials,
        isLite: Bool = false,
        options: [String],
        pacingMilliseconds: UInt32? = nil
    ) {
        self.init(
            credentials: credentials,
            isLite: isLite,
            supportsRenomination: options.contains(Self.renomination)
        )
        takesPadding = options.contains(Self.padding)
        pacing = pacingMilliseconds.map { UInt64($0) * 1_000_000 }
    }

    /// The token of `a=ice-options` by which an agent says that it follows numbered nominations.
    package static let renomination = "renomination"
    /// The token by which a program of this library says that it takes part in path MTU discovery.
    package static let padding = "turnpike-path-mtu"

    package init(credentials: ICECredentials, isLite: Bool = false, supportsRenomination: Bool = false) {
        self.credentials = credentials
        self.isLite = isLite
        self.supportsRenomination = supportsRenomination
    }
}

package enum ICERole: Hashable, Sendable {
    case controlling, controlled

    var other: ICERole { self == .controlling ? .controlled : .controlling }
}

package enum ICEError: Error, Hashable, Sendable {
    /// A user name fragment or password that RFC 8839 section 5.4 does not allow.
    case credentials
    /// The peer has new credentials, which is a restart: call `restart` first (RFC 8445 section 9).
    case restartNeeded
}

/// The timers of an agent, in nanoseconds, each with the specification's value or the reason for another.
package struct ICEConfiguration: Hashable, Sendable {
    /// Ta: RFC 8445 section 14.2. A shorter one has to be told (`a=ice-pacing`), and counts where the peer tells one as
    /// well; the larger of both does.
    package var pacing: UInt64 = ICELimits.pacingNanosecondsUsual
    /// RFC 8445 section 14.3.
    package var minimumRetransmission: UInt64 = 500_000_000
    /// Rc of RFC 8489 section 6.2.1 is 7. With 6 a pair without an answer has failed after 23.5 s, before the 30 s
    /// within which a person is told that there is no connection and why.
    package var transmissions = 6
    /// Rm of RFC 8489 section 6.2.1.
    package var lastWaitMultiple: UInt64 = 16
    /// RFC 8863 section 4: so long no agent gives up, though all pairs have failed, since the peer's checks may yet
    /// come.
    package var patience: UInt64 = 39_500_000_000
    /// RFC 7675 section 5.1: consent is asked for every 5 s, times 0.8 to 1.2, and lasts 30 s.
    package var consentInterval: UInt64 = 5_000_000_000
    package var consentLifetime: UInt64 = 30_000_000_000
    /// Valid pairs that carry nothing are asked as often, times 0.8 to 1.2: the shortest UDP bindings of NATs that have
    /// been measured last 30 s, and the pair to fall back to is known to work.
    package var warmInterval: UInt64 = 10_000_000_000
    /// While data goes out and nothing comes in for so long, the path is asked at once.
    package var silence: UInt64 = 600_000_000
    /// The same of `silence`, and then of `death`, where the peer's data comes by another pair that works: two checks
    /// are lost by then.
    package var followTime: UInt64 = 300_000_000
    /// While nothing comes in by a path with a relay for so long and two round trips, the relay's server is to be
    /// asked. SCTP holds an answer back for 200 ms (RFC 9260 section 6.2).
    package var relayDoubt: UInt64 = 200_000_000
    /// An unanswered check of a valid pair is followed by others at this distance.
    package var probeSpacing: UInt64 = 200_000_000
    /// With no answer for so long after the first, the path is dead: five probes, of which at 10 % loss each way all
    /// are lost once in four thousand times. With `silence` it makes 1.6 s, within the 2 s in which data has to flow
    /// again.
    package var death: UInt64 = 1_000_000_000
    /// The same for a path by which no data has gone that would wait for an answer.
    package var idleDeath: UInt64 = 3_000_000_000
    /// The same for a peer without renomination, with probes twice as close: it has to be moved by a restart, and
    /// the rest of the 2 s is for the offer, the answer and the first check.
    package var deathBeforeRestart: UInt64 = 600_000_000
    /// A dead path is asked this often, and is taken up again after two answers.
    package var revival: UInt64 = 1_000_000_000
    /// While a direct path or a relayed one is missing, one of the pairs that have failed is asked so often.
    package var trialInterval: UInt64 = 5_000_000_000
    /// Where there was a direct path before, all pairs that may lead to one are asked once in so long: with the way of
    /// the check and the nomination it makes the 3 s within which a path is direct again after its repair.
    package var returnTime: UInt64 = 2_000_000_000
    /// Peers without renomination may stop their own checks at the first nomination, so a relayed pair, which carries
    /// data from the start, is nominated only when nothing better came for so long.
    package var relayNominationDelay: UInt64 = 1_000_000_000
    /// So long after the peer's description the first connection over TCP is opened, if no path without a relay was
    /// found by UDP: that takes a round trip or two, and a connection is an entry in each NAT for minutes.
    package var streamDelay: UInt64 = 250_000_000

    package init() {}
}

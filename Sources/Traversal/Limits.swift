/// Every number that bounds the client's protocol state, with its reason. Times are nanoseconds unless the name says
/// otherwise.
package enum Limits {
    static let millisecond: UInt64 = 1_000_000
    static let second: UInt64 = 1_000_000_000

    // MARK: Transactions (RFC 8489 section 6.2)

    /// Section 6.2.1: the first RTO, before anything is known of the way.
    package static let initialRetransmission = 500 * millisecond
    /// An estimate below this would make the server's own delay look like loss.
    package static let shortestRetransmission = 100 * millisecond
    /// A way that takes longer is broken, and its requests would outlive any patience.
    package static let longestRetransmission = 8 * second
    /// Rc: how often a request is sent in all.
    package static let transmissions = 7
    /// Rm: how many RTOs the last one is waited for.
    package static let lastWait: UInt64 = 16
    /// Ti, section 6.2.2: how long an answer by a connection may take.
    package static let streamWait = 39_500 * millisecond
    /// Section 6.2.1: an estimate that nobody used for so long is forgotten.
    static let estimateLifetime = 600 * second
    /// Servers whose round trip is remembered: more than anybody configures.
    static let estimates = 32
    /// Transactions under way in one machine. ICE's largest check list has a hundred pairs.
    package static let transactions = 256

    // MARK: What an answer may hold (RFC 8489 sections 14.8 to 14.10)

    static let realmBytes = 763
    static let nonceBytes = 763
    static let usernameBytes = 508
    /// Of a server's reason phrase this much is shown.
    static let reasonCharacters = 120
}

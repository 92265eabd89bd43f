/// Every number that bounds a client of signaling, with its reason.
package enum SignalingClientLimits {
    // What comes from the server.

    /// The longest message that a server sends: a payload of the largest `signaling.max_message_bytes` there is, 1 MiB,
    /// stands in it twice, besides two names.
    package static let messageBytesMax = 2_101_248
    /// A roster holds metadata, which was nested in two levels fewer when it was registered.
    static let jsonDepthMax = SignalingLimits.jsonDepthMax + 4
    /// A roster of 128 KiB whose members are as short as can be.
    static let jsonMembersMax = 32_768
    /// A roster, or a payload twice.
    static let jsonValuesMax = 98_304
    static let iceServersMax = 64
    static let iceURLsMax = 16
    /// What is kept of the text of an `error`.
    static let errorCharactersMax = 512
    /// A server that goes on talking nonsense is left.
    static let malformedPerConnectionMax: UInt64 = 64
    /// No pause that the server asks for is longer.
    static let pauseMillisecondsMax: UInt64 = 3_600_000

    /// And after `rate-limited` no longer than this; another refusal costs little.
    static let ratePauseMillisecondsMax: UInt64 = 60_000

    // What waits.

    /// Messages that wait for a connection, or for their turn.
    package static let waitingMessagesMax = 256
    package static let waitingBytesMax = 524_288
    /// Messages that are sent, and may have to be sent again.
    static let unconfirmedMessagesMax = 256
    static let unconfirmedBytesMax = 524_288
    /// The server is asked how far it has come when so much is unconfirmed, or after that time.
    static let confirmMessages = 16
    static let confirmBytes = 65_536
    static let confirmSeconds: UInt64 = 2
    /// How often a message is tried that the server refuses for the moment.
    static let attemptsMax = 6
    /// The share of the server's burst that the client uses: on the way messages draw near to each other.
    static let burstShare: (numerator: UInt64, denominator: UInt64) = (3, 4)

    // Time.

    /// For the handshakes of TCP, TLS and WebSocket.
    static let connectSeconds: UInt64 = 15
    /// The server waits 5 s for a `hello` and 10 s for its account store.
    static let greetingSeconds: UInt64 = 17
    /// The pause before the second attempt; each is twice the one before.
    static let backOffMilliseconds: UInt64 = 500
    static let backOffMillisecondsMax: UInt64 = 60_000
    /// A connection that held for so long was a good one, and back-off begins anew.
    static let stableSeconds: UInt64 = 10
    /// The shortest pause after 1008, which says that this client was a burden.
    static let policyPauseMilliseconds: UInt64 = 5_000
    /// The shortest pause after a fault in the protocol, which the next attempt will hardly mend.
    static let faultPauseMilliseconds: UInt64 = 30_000
    /// When a peer id is tried again that another connection has; each pause is twice the one before.
    static let retakeMilliseconds: UInt64 = 2_000
    /// The caller is told so long before its credentials end, or at half their life where that is later.
    static let credentialNoticeSeconds: UInt64 = 60
    /// TURN credentials are asked for so long before they end, where the server has not sent any.
    static let iceMarginSeconds: UInt64 = 30
    static let iceRetrySeconds: UInt64 = 10
    /// Samples of the server's clock at the beginning, their distance, and how often one is taken after that.
    static let clockSamples = 4
    static let clockSampleMilliseconds: UInt64 = 250
    static let clockSeconds: UInt64 = 300
}

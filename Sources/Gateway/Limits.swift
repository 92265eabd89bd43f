import NIOCore
import Signaling

/// Every bound of the gateway, each with its reason.
package enum GatewayLimits {
    // MARK: Connections

    /// Connections of all clients together: 10,000 peers, and room for those who come back before the server has
    /// noticed that they were gone.
    static let connections = 50_000
    /// Of one source, beyond `signaling.connections_per_address`: for requests of the API, and so that a client who has
    /// too many WebSockets is told so.
    static let connectionsBesides = 32
    /// TLS handshakes under way: those who only begin them must not use up the connections (case RE-07).
    static let handshakes = 2_048
    /// A client that has not finished its handshake by then is slow on purpose, or gone (RE-04).
    static let handshakeTime = TimeAmount.seconds(10)
    /// Time for the end of a connection to be read by a client that is to know why.
    static let closeTime = TimeAmount.seconds(2)
    /// Of one connection: what waits for a client that does not read (DEF-19).
    package static let outgoingBytes = 262_144
    /// A client that reads nothing of a response for so long is gone.
    static let responseTime = TimeAmount.seconds(30)
    static let backlog: Int32 = 1_024
    /// What a connection's first read may take. It grows with what comes; a hello of TLS fits.
    static let receivedBytes = 1_024
    /// What is sealed at once in memory that all connections of a loop share; more takes its own.
    static let sealingBytes = 131_072

    // MARK: HTTP (case WS-14)

    /// From the first moment, whatever trickles in meanwhile.
    static let headTime = TimeAmount.seconds(10)
    static let bodyTime = TimeAmount.seconds(10)
    package static let headLineBytes = 8_192
    package static let headBytes = 16_384
    package static let headerFields = 100
    /// The largest request of the API is a shared secret of 1 KiB.
    package static let bodyBytes = 65_536
    /// Requests on one connection before it is closed: a client that keeps a connection for ever must log in again now
    /// and then, which spreads clients after a restart.
    static let requestsPerConnection = 10_000

    // MARK: WebSocket

    /// Fragments of one message, empty ones included (cases WS-08, WS-09).
    package static let fragments = 64
    /// Pings, pongs and closes that may come at once, and then each second. A client pings every half minute (WS-12).
    static let controlBurst = 64
    static let controlPerSecond = 4
    /// How often a connection is looked after.
    static let heartbeat = TimeAmount.seconds(15)
    /// Silence after which a ping asks whether the peer is there, and after which it is not (WS-24: dead within 75 s,
    /// of which the last heartbeat may take 15).
    static let pingAfter = TimeAmount.seconds(29)
    static let deadAfter = TimeAmount.seconds(60)

    /// Messages of one connection of which it is not known whether they arrived: what the hub keeps to send them again.
    static let deliveryMarks = SignalingLimits.replayMessagesPerSession
    /// A busy connection is asked so often before it is written to. What it acknowledged since is less than what is on
    /// its way in a round trip, and asking each time was measurable in what a message cost.
    static let acknowledgementAge = TimeAmount.milliseconds(5)
    /// How long, and in which steps, a connection that was cut is asked what arrived: many round trips.
    static let settleTime = closeTime
    static let settleStep = TimeAmount.milliseconds(10)

    // MARK: Lists

    /// Sockets and rooms that one answer names: some megabytes.
    static let sessionsListed = 20_000
    static let roomsListed = 10_000

    // MARK: Metrics

    /// Connections to `listen.metrics`: a few scrapers, and a person with a browser.
    static let metricsConnections = 32

    // MARK: Logins and credentials

    /// Failed logins of one source network that are answered at once, and how many more each minute (SG-20).
    package static let loginFailureBurst = 20
    package static let loginFailuresPerMinute = 10
    /// How long who has failed by the hundred at once waits for the next try: ten minutes.
    static let bucketDebtNanoseconds: UInt64 = 600_000_000_000
    /// Source networks whose failures are remembered. Past that, the stalest is forgotten.
    package static let loginSources = 8_192
    /// Requests of one user to the API, which the loop of signaling answers: nobody else's messages wait for them.
    static let requestBurst = 100
    static let requestsPerMinute = 1_200
    /// `GET /api/v1/ice-servers` of one user: a page asks once for each call (SG-15).
    package static let credentialBurst = 20
    package static let credentialsPerMinute = 60
    /// Users whose requests and wishes for credentials are remembered.
    package static let usersRemembered = 8_192
    /// What is handed out without a wish, and the least.
    package static let credentialSeconds = 3_600
    package static let credentialSecondsMin = 60
}

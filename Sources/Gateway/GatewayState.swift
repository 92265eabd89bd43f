import Foundation
import NIOCore
import Synchronization

/// What all connections and routes share.
final class GatewayState: Sendable {
    private struct Values {
        var configuration: GatewayConfiguration
        var isDraining = false
        var credentials = BucketTable(
            capacity: GatewayLimits.usersRemembered,
            burst: GatewayLimits.credentialBurst,
            perMinute: GatewayLimits.credentialsPerMinute
        )
        var requests = BucketTable(
            capacity: GatewayLimits.usersRemembered,
            burst: GatewayLimits.requestBurst,
            perMinute: GatewayLimits.requestsPerMinute
        )
    }

    let tally: ConnectionTally
    private let throttle = LoginThrottle()
    private let values: Mutex<Values>
    private let startedNanoseconds = NIODeadline.now().uptimeNanoseconds

    init(_ configuration: GatewayConfiguration) {
        values = Mutex(Values(configuration: configuration))
        tally = ConnectionTally(perSourceMax: configuration.connectionsPerAddress)
    }

    var configuration: GatewayConfiguration { values.withLock { $0.configuration } }

    var isDraining: Bool { values.withLock { $0.isDraining } }

    var uptimeSeconds: UInt64 { (NIODeadline.now().uptimeNanoseconds - startedNanoseconds) / 1_000_000_000 }

    func take(_ configuration: GatewayConfiguration) {
        values.withLock { $0.configuration = configuration }
        tally.allow(perSource: configuration.connectionsPerAddress)
    }

    func beginDraining() { values.withLock { $0.isDraining = true } }

    func authenticator(_ directory: any GatewayDirectory) -> Authenticator {
        Authenticator(directory: directory, throttle: throttle, realm: configuration.realm)
    }

    /// Counts a request.
    /// - Returns: how many milliseconds that user has to wait first; nil for none.
    func waitForRequest(_ user: String) -> UInt64? {
        let key = UInt64(truncatingIfNeeded: user.hashValue)
        return values.withLock { $0.requests.take(key, at: NIODeadline.now().uptimeNanoseconds) }
    }

    /// Counts a wish for credentials.
    /// - Returns: how many milliseconds that user has to wait first; nil for none.
    func waitForCredentials(_ user: String) -> UInt64? {
        let key = UInt64(truncatingIfNeeded: user.hashValue)
        return values.withLock { $0.credentials.take(key, at: NIODeadline.now().uptimeNanoseconds) }
    }
}

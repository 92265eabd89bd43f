import Foundation
import Gateway
import LinuxIO
import OpenSSLCrypto
import Settings

/// What the operator's settings mean to the gateway.
enum GatewaySetup {
    static func options(_ settings: Settings, certificate: TLSContext?) -> GatewayOptions {
        let isImplied = settings.listen.implied.contains("listen.https")
        return GatewayOptions(
            listeners: settings.listen.https.map {
                GatewayListener(host: "\($0.host)", port: Int($0.port), isImplied: isImplied)
            },
            certificate: certificate,
            adminSocket: AdminSocket(path: AdminSocketPath.of(settings), isImplied: settings.admin.socket == nil),
            configuration: configuration(settings),
            loops: settings.signaling.threads == .auto ? loops : settings.signaling.threads.number
        )
    }

    static func metrics(_ settings: Settings) -> [GatewayListener] {
        let isImplied = settings.listen.implied.contains("listen.metrics")
        return settings.listen.metrics.map {
            GatewayListener(host: "\($0.host)", port: Int($0.port), isImplied: isImplied)
        }
    }

    static func configuration(_ settings: Settings) -> GatewayConfiguration {
        var configuration = GatewayConfiguration()
        configuration.realm = settings.realm
        configuration.isSignalingEnabled = settings.signaling.isEnabled
        configuration.allowsPlaintext = settings.signaling.allowsPlaintext
        configuration.allowedOrigins = settings.signaling.allowedOrigins
        configuration.maxMessageBytes = settings.signaling.maxMessageBytes
        configuration.messagesPerSecond = settings.signaling.messagesPerSecond
        configuration.burst = settings.signaling.burst
        configuration.connectionsPerUser = settings.signaling.connectionsPerUser
        configuration.connectionsPerAddress = settings.signaling.connectionsPerAddress
        configuration.peerTimeoutSeconds = settings.signaling.peerTimeoutSeconds
        configuration.resumeWindowSeconds = settings.signaling.resumeWindowSeconds
        configuration.probeSources = settings.listen.alternate.map { "\($0.host)" }
        configuration.maxCredentialSeconds = settings.auth.maxCredentialTTLSeconds
        return configuration
    }

    /// Most of a message's work is done without a hop while all connections share a thread; a machine with many cores
    /// has some to spare for more.
    private static var loops: Int {
        let cores = (try? ThreadAffinity.availableCPUs().count) ?? 1
        return min(max(cores / 4, 1), 4)
    }
}

extension Settings {
    /// Whether peers can meet here.
    var servesSignaling: Bool { signaling.isEnabled && !(listen.https.isEmpty && listen.shared.isEmpty) }
}

/// Where the server takes the commands that need it running.
package enum AdminSocketPath {
    package static func of(_ settings: Settings) -> String {
        settings.admin.socket ?? settings.dataDirectory + "/admin.sock"
    }
}

import Relay
import Settings
import Synchronization

/// The settings in force, with the listeners that came about instead of those that were asked for: ports that the
/// kernel chose, and without what could not be had.
final class ServedSettings: Sendable {
    private let settings: Mutex<Settings>
    private let udp: [SocketAddress]
    private let tcp: [SocketAddress]
    private let tls: [SocketAddress]
    private let shared: [SocketAddress]

    init(_ settings: Settings, _ relay: RelayService) {
        udp = relay.listeners.map(SocketAddress.init)
        tcp = relay.streamListeners.filter { !$0.isTLS }.map { SocketAddress($0.endpoint) }
        tls = relay.streamListeners.filter { $0.isTLS && !$0.isShared }.map { SocketAddress($0.endpoint) }
        shared = relay.streamListeners.filter(\.isShared).map { SocketAddress($0.endpoint) }
        self.settings = Mutex(settings)
    }

    var value: Settings {
        get {
            var settings = settings.withLock { $0 }
            settings.listen.udp = udp
            settings.listen.tcp = tcp
            settings.listen.tls = tls
            settings.listen.shared = shared
            return settings
        }
        set { settings.withLock { $0 = newValue } }
    }
}

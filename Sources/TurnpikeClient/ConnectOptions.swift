/// What a connection has to be like; `P2PCoordinator.connectToPeer(_:options:)`.
public struct ConnectOptions: Sendable, Hashable {
    /// Which paths will do.
    public enum Requirement: String, Sendable, Hashable, Codable {
        /// The first usable one, mostly a relay's; a better one takes over in the background.
        case any
        /// One without a relay: the call waits for it.
        case direct
        /// A relay's alone, so that the peer does not learn this host's addresses.
        case relay
    }

    /// Which paths will do.
    public var require: Requirement
    /// Until the call gives up; `nil` for the configuration's `connectionTimeout`.
    public var timeout: Duration?

    /// Makes options; by default any path will do.
    public init(require: Requirement = .any, timeout: Duration? = nil) {
        self.require = require
        self.timeout = timeout
    }
}

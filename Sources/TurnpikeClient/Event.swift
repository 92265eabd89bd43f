/// What a coordinator tells of itself; `P2PCoordinator.events`.
public enum Event: Sendable {
    /// `initialize()` is done.
    case initialized
    /// The server has taken an id of this coordinator.
    case peerRegistered(PeerID)
    /// A connection is open, from here or from a peer.
    case connected(Connection)
    /// An attempt to connect, from here or from a peer, led to none.
    case connectionFailed(ConnectionFailure)
    /// A connection's data takes another way from now on.
    case pathChanged(Connection, Path?)
    /// More or something else is known of the NAT.
    case natChanged(NATInfo)
    /// A connection is over, with the reason.
    case disconnected(Connection, reason: String)
    /// `shutdown()` is done. The last event.
    case shutdown
}

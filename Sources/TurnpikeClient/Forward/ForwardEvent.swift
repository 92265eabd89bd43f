import DataChannels

/// What becomes of forwarded connections, for a person to read.
package enum ForwardEvent: Sendable {
    /// A peer's connection to the target stands.
    case accepted(peer: PeerID, target: String)
    /// A peer asked for what it does not get.
    case declined(peer: PeerID, target: String, ForwardRefusal)
    /// There is no connection to the peer.
    case unreachable(ConnectionFailure)
    /// The peer makes no connection to the target.
    case refused(peer: PeerID, target: String, ForwardRefusal)
    /// The peer does not say whether it connects.
    case unanswered(peer: PeerID, target: String)
    /// A connection was broken by what the peer sent.
    case broken(peer: PeerID, target: String, ForwardFlowError)
    /// More connections than there may be.
    case crowded(peer: PeerID, limit: Int)
}

import DataChannels
import Signaling
import Traversal

/// What a session needs of the client it belongs to.
protocol SessionHost: AnyObject {
    var context: PeerContext { get }
    var gatherer: Gatherer { get }
    var maxRetries: Int { get }
    /// - Parameter failed: called once, when the message has had no effect.
    func tell(
        _ kind: SignalingMessageKind,
        _ payload: JSONValue,
        from: PeerID,
        to: PeerID,
        failed: @escaping (SignalingError) -> Void
    )
    /// Gives the session its `connection`.
    func opening(_ session: PeerSession)
    func opened(_ session: PeerSession)
    func pathChanged(_ session: PeerSession, to path: ICEPath?)
    func ended(_ session: PeerSession, _ end: PeerLink.End)
    func failed(_ session: PeerSession, _ failure: ConnectionFailure)
    /// Who takes the messages of a channel that the peer opened; nil for the program.
    func user(of channel: DataChannel, in session: PeerSession) -> (any ChannelUser)?
    /// What else is known to be wrong, for reports.
    var problems: [String] { get }
    /// What is known of this side's network, and what the peer has told of its own.
    var networkFacts: NetworkFacts { get }
    func networkFacts(of peer: PeerID) -> NetworkFacts?
    func pathMemory(from local: PeerID, to remote: PeerID) -> PathMemory?
    func report(_ method: PathMethod, worked: Bool, milliseconds: UInt64, from local: PeerID, to remote: PeerID)
    /// Nil without a signaling server.
    var serverClock: ServerClock? { get }
    /// What measuring the next ports over TCP takes; nil where the NAT does not count, or guesses are not wanted.
    var aimFacts: StreamAim.Facts? { get }
    /// Whether connections from here may go to ports that the peer's NAT has given: all seem to come from one port.
    var aimsStreams: Bool { get }
    /// What guessing ports takes; nil while it is not known, or where it is not wanted.
    var punchFacts: PunchFacts? { get }
    /// Called, on any thread, when the program has read what a session waited for.
    func resumer(_ session: UInt64) -> @Sendable () -> Void
}

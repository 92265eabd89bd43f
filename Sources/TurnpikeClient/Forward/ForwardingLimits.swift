/// The bounds of forwarded TCP connections, each with its reason; `ForwardLimits` has those of one channel. Times are
/// nanoseconds.
extension ClientLimits {
    /// Over one peer connection, in either direction: its association has 256 channels, and those that are being closed
    /// count there for a while.
    package static let forwardsPerPeer = 200
    /// Of the process. Each takes a descriptor, of which a process usually has 1,024.
    package static let forwardsInAll = 500
    /// Connections that were taken here and wait for the peer connection.
    static let forwardsWaiting = 100
    /// What the system holds of a connection that is not read. NIO reads all of it once the other side has ended its
    /// direction, so it is what a connection may hold here beside its window. A loopback gigabit needs no more.
    static let forwardBufferBytes = 262_144
    /// What one read takes.
    static let forwardReadBytes = 65_536
    /// Of a connection's bytes in the association and not sent yet. A megabyte holds all channels; so one that sends
    /// without end leaves room for the first bytes of the next.
    static let forwardUnsentBytes = 262_144
    /// How long connecting to an address may take. A host that drops what comes does not answer at all.
    static let forwardConnectTime = 10 * second
    /// Addresses of one name that are tried, one by one.
    static let forwardAddresses = 4
    /// How long the peer may take to say where it wants to go, which comes with the channel.
    static let forwardAskTime = 10 * second
    /// How long the peer may take to answer: it may try a name's addresses one by one.
    static let forwardAnswerTime = 4 * forwardConnectTime + 5 * second
    /// From a failure to reach the peer to the next attempt, so that a browser that tries again and again does not make
    /// an offer each time. It doubles up to the longest.
    static let forwardPause = 1 * second
    static let longestForwardPause = 8 * second
}

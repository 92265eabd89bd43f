import TURN

/// A client's connection on its way to another thread: from the handshaker to a worker, or to the worker that has the
/// peer connection it asks for. The kernel gave that one to whichever worker it liked; where it came in, its
/// ConnectionBind was proved to be its user's, and nothing behind it was looked at.
final class Handover: @unchecked Sendable {  // One thread has it at a time.
    // @unchecked: whoever makes it touches it no more once it is posted, and whoever takes it is alone with it.
    private var connection: StreamConnection?
    /// What it asks for; nil for one that has made its TLS handshake and nothing else.
    let binding: ConnectionBinding?

    init(_ connection: consuming StreamConnection, _ binding: ConnectionBinding?) {
        self.connection = consume connection
        self.binding = binding
    }

    /// Gives the connection, once.
    func take() -> StreamConnection? { connection.take() }
}

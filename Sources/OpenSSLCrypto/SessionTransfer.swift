/// A session on its way from one thread to another.
package final class SessionTransfer: @unchecked Sendable {  // One thread has it at a time.
    // @unchecked: whoever makes it touches the session no more, and whoever takes it is alone with it.
    private var session: TLSSession?

    /// The session seals into memory of its own until somebody has it use a thread's.
    package init(_ session: TLSSession) {
        session.use(nil)
        self.session = session
    }

    /// Gives the session, once.
    package func take() -> TLSSession? { session.take() }
}

import Lab
import STUN
import Traversal
import TurnpikeClient

/// A TCP connection of the lab's as the client has it.
final class LabStream: StreamLink {
    private let host: Host
    private var connection: TCPConnection?
    private var receive: ((StreamEvent) -> Void)?
    private let subject: String
    /// Of a port that all its connections share: they end with a reset.
    private let isOfPort: Bool

    /// - Parameter own: where it is to come from; nil for any.
    init(_ host: Host, to endpoint: Endpoint, from own: Endpoint? = nil, _ receive: @escaping (StreamEvent) -> Void) {
        self.host = host
        self.receive = receive
        isOfPort = own != nil
        subject = "TCP to \(endpoint.text)"
        guard let connection = host.connect(to: endpoint, from: own?.port ?? 0, at: own?.address) else {
            let failure = NetworkFailure(own == nil ? .unreachable : .addressUnavailable, subject)
            host.internet.scheduler.after(nanoseconds: 0) { self.end(failure) }
            return
        }
        follow(connection)
        connection.onOpen = { [weak self] in self?.receive?(.opened(local: connection.local)) }
    }

    init(_ host: Host, accepted connection: TCPConnection) {
        self.host = host
        isOfPort = true
        subject = "TCP from \(connection.remote.text)"
        self.connection = connection
    }

    /// - Parameter receive: nil to be rid of it.
    func begin(_ receive: ((StreamEvent) -> Void)?) {
        guard let connection else { return }
        guard let receive else { return connection.abort() }
        self.receive = receive
        follow(connection)
        let early = connection.inbox
        connection.inbox = []
        if !early.isEmpty { early.withUnsafeBytes { receive(.bytes($0)) } }
    }

    private func follow(_ connection: TCPConnection) {
        self.connection = connection
        connection.onReceive = { [weak self] bytes in bytes.withUnsafeBytes { self?.receive?(.bytes($0)) } }
        connection.onEnd = { [weak self] in self?.end(nil) }
        connection.onClose = { [weak self] failure in
            guard let self else { return }
            end(
                failure.map {
                    NetworkFailure($0 == .refused ? .refused : $0 == .timedOut ? .timedOut : .reset, self.subject)
                }
            )
        }
    }

    var queuedBytes: Int { connection?.unacknowledgedBytes ?? 0 }

    func send(_ bytes: UnsafeRawBufferPointer) { connection?.send(Array(bytes)) }

    func close() {
        receive = nil
        guard let connection else { return }
        self.connection = nil
        guard isOfPort else { return connection.finish() }
        guard connection.state == .established else { return connection.abort() }
        host.internet.scheduler.after(seconds: 0.2) { connection.abort() }
    }

    private func end(_ failure: NetworkFailure?) {
        let receive = receive
        self.receive = nil
        connection?.finish()
        connection = nil
        receive?(.closed(failure))
    }
}

/// A TCP port of the lab's.
final class LabStreamPort: StreamPort {
    let local: Endpoint
    private let host: Host
    private var onClose: (() -> Void)?

    init(
        _ host: Host,
        _ local: Endpoint,
        _ receive: @escaping (StreamPortEvent) -> Void,
        onClose: @escaping () -> Void
    ) {
        (self.host, self.local, self.onClose) = (host, local, onClose)
        host.listen(local.port, at: local.address) { connection in
            let link = LabStream(host, accepted: connection)
            // The client is told behind the event that brought it.
            host.internet.scheduler.after(nanoseconds: 0) {
                var taker: ((StreamEvent) -> Void)?
                receive(.accepted(link, from: connection.remote) { taker = $0 })
                link.begin(taker)
            }
        }
    }

    func connect(to endpoint: Endpoint, _ receive: @escaping (StreamEvent) -> Void) -> any StreamLink {
        LabStream(host, to: endpoint, from: local, receive)
    }

    func close() {
        host.listen(local.port, at: local.address, nil)
        onClose?()
        onClose = nil
    }
}

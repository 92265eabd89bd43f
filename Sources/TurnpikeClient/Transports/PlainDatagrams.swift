import Traversal

/// UDP to one server over a socket of its own. A `StreamLink` whose `.bytes` are one datagram each, and so are those of
/// `send`.
final class PlainDatagrams: StreamLink {
    private let endpoint: Endpoint
    private var port: (any DatagramPort)?
    private var opening: (any Alarm)?
    private var receive: ((StreamEvent) -> Void)?
    private var endsIfRefused: Bool

    /// - Parameter endsIfRefused: whether it ends when the other side's host says, before the first datagram comes,
    ///   that nothing listens there. Later it may be the server's restart.
    init(
        to endpoint: Endpoint,
        endsIfRefused: Bool = true,
        network: any ClientNetwork,
        _ receive: @escaping (StreamEvent) -> Void
    ) throws(NetworkFailure) {
        self.endpoint = endpoint
        self.endsIfRefused = endsIfRefused
        self.receive = receive
        port = try network.openDatagrams(to: endpoint) { [weak self] event in
            self?.take(event)
        }
        opening = network.alarm { [weak self] in
            guard let self, let local = self.port?.local else { return }
            self.receive?(.opened(local: local))
        }
        opening?.set(at: network.nowNanoseconds)
    }

    deinit { port?.close() }

    var queuedBytes: Int { 0 }

    func send(_ bytes: UnsafeRawBufferPointer) { port?.send(bytes, to: endpoint) }

    func close() {
        receive = nil
        port?.close()
        port = nil
    }

    private func take(_ event: DatagramEvent) {
        switch event {
        case .datagram(let bytes, let source):
            guard source == endpoint else { return }
            endsIfRefused = false
            receive?(.bytes(bytes))
        // Of one who has been heard it may pass; requests that are not answered end by themselves.
        case .unreachable:
            guard endsIfRefused else { return }
            end(port?.refusal ?? NetworkFailure(.refused, "UDP to \(AddressText.text(endpoint))"))
        case .failed(let failure): end(failure)
        }
    }

    private func end(_ failure: NetworkFailure) {
        let receive = receive
        close()
        receive?(.closed(failure))
    }
}

import Traversal

/// UDP to one server over a socket of its own. A `StreamLink` whose `.bytes` are one datagram each, and so are those of
/// `send`.
final class PlainDatagrams: StreamLink {
    private let endpoint: Endpoint
    private var port: (any DatagramPort)?
    private var opening: (any Alarm)?
    private var receive: ((StreamEvent) -> Void)?

    init(
        to endpoint: Endpoint,
        network: any ClientNetwork,
        _ receive: @escaping (StreamEvent) -> Void
    ) throws(NetworkFailure) {
        self.endpoint = endpoint
        self.receive = receive
        port = try network.openDatagrams(at: .any(endpoint.family), port: 0) { [weak self] event in
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
            if source == endpoint { receive?(.bytes(bytes)) }
        // It may be forged or pass; requests that are not answered end by themselves.
        case .unreachable: break
        case .failed(let failure):
            let receive = receive
            close()
            receive?(.closed(failure))
        }
    }
}

import Lab
import STUN
import Traversal
import TurnpikeClient

/// A connection to the lab's `Rendezvous`, whose frames stand for those of a WebSocket.
final class LabWebSocket: WebSocketLink {
    private let subject: String
    private let scheduler: Scheduler
    private var framer: SignalingFramer?
    private var receive: ((WebSocketEvent) -> Void)?
    private var code: UInt16 = 1_006
    private lazy var pongAlarm = LabAlarm(scheduler) { [weak self] in
        guard let self else { return }
        framer?.connection.abort()
        end(NetworkFailure(.timedOut, subject))
    }

    /// - Parameter address: nil where the name is not known.
    init(
        _ host: Host,
        to address: IPAddress?,
        _ request: WebSocketRequest,
        _ receive: @escaping (WebSocketEvent) -> Void
    ) {
        subject = "signaling at \(request.host):\(request.port)"
        scheduler = host.internet.scheduler
        self.receive = receive
        guard let address, let connection = host.connect(to: Endpoint(address: address, port: request.port)) else {
            let reason: NetworkFailure.Reason = address == nil ? .unknownName : .unreachable
            scheduler.after(nanoseconds: 0) { self.end(NetworkFailure(reason, self.subject)) }
            return
        }
        framer = SignalingFramer(connection)
        connection.onOpen = { [weak self] in self?.receive?(.opened) }
        connection.onReceive = { [weak self] in self?.take($0) }
        connection.onEnd = { [weak self] in self?.end(nil) }
        connection.onClose = { [weak self] failure in self?.end(failure.map { self?.failure($0) } ?? nil) }
    }

    var localAddress: IPAddress? { framer?.connection.local.address }

    func send(_ text: String) { framer?.send(.text, Array(text.utf8)) }

    func ping() {
        framer?.send(.ping, [])
        pongAlarm.set(at: scheduler.now &+ 10_000_000_000)
    }

    func close(code: UInt16) {
        receive = nil
        framer?.send(.close, withUnsafeBytes(of: code.bigEndian, Array.init))
        framer?.connection.finish()
        framer = nil
        pongAlarm.set(at: nil)
    }

    private func take(_ bytes: [UInt8]) {
        framer?.take(bytes) { kind, payload in
            switch kind {
            case .text: receive?(.text(String(decoding: payload, as: UTF8.self)))
            case .ping: framer?.send(.pong, payload)
            case .pong: pongAlarm.set(at: nil)
            case .close: code = payload.prefix(2).reduce(0) { $0 << 8 | UInt16($1) }
            }
        }
    }

    private func failure(_ failure: TCPConnection.Failure) -> NetworkFailure {
        NetworkFailure(failure == .refused ? .refused : failure == .timedOut ? .timedOut : .reset, subject)
    }

    private func end(_ failure: NetworkFailure?) {
        let receive = receive
        self.receive = nil
        framer?.connection.finish()
        framer = nil
        pongAlarm.set(at: nil)
        receive?(.closed(code: code, failure))
    }
}

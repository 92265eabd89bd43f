import NIOCore
import Signaling

/// One client's WebSocket on its way to the hub: at once where both are of one loop, else in batches, one for each
/// read.
final class SignalingConnection: WebSocketDelegate {
    struct Opening: Sendable {
        let id: ConnectionID
        let source: ClientSource
        let grant: Grant?
    }

    private enum News: Sendable {
        case text(ByteBuffer)
        case acknowledged(UInt64)
    }

    private let opening: Opening
    private let home: any EventLoop
    private let hubLoop: any EventLoop
    private let runner: NIOLoopBoundBox<HubRunner>
    private let isLocal: Bool
    private var news: [News] = []

    init(_ opening: Opening, home: any EventLoop, hubLoop: any EventLoop, runner: NIOLoopBoundBox<HubRunner>) {
        self.opening = opening
        self.home = home
        self.hubLoop = hubLoop
        self.runner = runner
        isLocal = home === hubLoop
    }

    func opened(_ socket: WebSocketHandler) {
        let bound = NIOLoopBound(socket, eventLoop: home)
        let (opening, home) = (opening, home)
        onHub { $0.opened(opening, bound, home: home) }
    }

    func received(_ text: ByteBuffer, on socket: WebSocketHandler) {
        if isLocal {
            runner.value.receive(text, from: opening.id)
        } else {
            news.append(.text(text))
        }
    }

    func received(binary: ByteBuffer, on socket: WebSocketHandler) {
        socket.close(1003, "messages are text")
    }

    func ponged(_ payload: ByteBuffer, on socket: WebSocketHandler) {
        guard payload.readableBytes == 8, let sequence = payload.getInteger(at: payload.readerIndex, as: UInt64.self)
        else { return }
        socket.confirm(through: sequence)
        if isLocal {
            runner.value.acknowledged(opening.id, through: sequence)
        } else {
            news.append(.acknowledged(sequence))
        }
    }

    func paused(_ socket: WebSocketHandler) {
        if isLocal { return runner.value.flush() }
        guard !news.isEmpty else { return }
        let (batch, id) = (news, opening.id)
        news = []
        onHub { runner in
            for item in batch {
                switch item {
                case .text(let text): runner.receive(text, from: id)
                case .acknowledged(let sequence): runner.acknowledged(id, through: sequence)
                }
            }
            runner.flush()
        }
    }

    func isTooSlow(_ socket: WebSocketHandler) {
        let (id, delivered) = (opening.id, socket.deliveredThrough)
        // Never in the midst of a delivery: the hub is at work then.
        let runner = runner
        hubLoop.execute { runner.value.isTooSlow(id, delivered) }
    }

    /// Every ping tells the hub how far the client has come.
    func pingPayload(_ socket: WebSocketHandler) -> ByteBuffer {
        isLocal ? ByteBuffer(integer: runner.value.sequence(of: opening.id)) : ByteBuffer()
    }

    func lastWords(_ failure: WebSocketFailure) -> ByteBuffer? {
        switch failure.code {
        case 1009:
            return OutgoingFrame.text(#"{"type":"error","code":"too-large","error":"The message is too large"}"#)
        case 1008:
            return OutgoingFrame.text(#"{"type":"error","code":"rate-limited","error":"Too many frames"}"#)
        default:
            return nil
        }
    }

    func closed(_ socket: WebSocketHandler, _ end: WebSocketEnd) {
        let ending: Ending
        switch end {
        // What the hub has closed it knows of; what is closed here broke a rule, and is not resumed.
        case .byClient(nil), .byClient(1000), .byServer: ending = .goodbye
        case .byClient, .lost: ending = .lost(deliveredThrough: socket.deliveredThrough)
        }
        let (id, runner) = (opening.id, runner)
        // Likewise. What it sent before goes before.
        paused(socket)
        hubLoop.execute { runner.value.closed(id, ending) }
    }

    private func onHub(_ body: @escaping @Sendable (HubRunner) -> Void) {
        if isLocal { return body(runner.value) }
        let runner = runner
        hubLoop.execute { body(runner.value) }
    }
}

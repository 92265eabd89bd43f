import DataChannels
import NIOCore
import Traversal

/// Who takes a channel's messages on the loop, as they come, instead of a queue that a program's task reads.
protocol ChannelUser: AnyObject {
    /// The channel is there, with what it is called in calls of the session.
    func begin(on number: Int)
    func receive(_ message: [UInt8])
    /// What was refused may be sent.
    func becameWritable()
    /// The channel is closed, or the connection is over.
    func ended()
}

/// One TCP connection and the channel that carries it, on the loop.
final class ForwardPipe: ChannelUser {
    enum Ending {
        /// Both directions ended, or the connection broke at either end.
        case over
        /// This side opened the channel, and the peer makes no connection.
        case refused(ForwardRefusal)
        /// The peer did not say what it has to in time.
        case unanswered
        case broken(ForwardFlowError)
    }

    private(set) var flow: ForwardFlow
    /// The peer named its target.
    var onAsked: ((ForwardPipe) -> Void)?
    private let session: PeerSession
    private let patience: UInt64
    private var number = -1
    private var socket: ForwardSocket?
    /// Read from the socket, and not taken by the flow.
    private var input = ByteBuffer()
    private var inputHasEnded = false
    private var outputHasEnded = false
    private var channelHasEnded = false
    private var isOver = false
    private var isPumping = false
    private var isPumpWanted = false
    private var onEnd: ((ForwardPipe, Ending) -> Void)?
    private lazy var alarm = session.host.context.network.alarm { [weak self] in self?.end(.unanswered) }

    /// - Parameters:
    ///   - patience: how long the peer has for its first message, in nanoseconds.
    ///   - onEnd: called once, when the connection is over.
    init(
        _ session: PeerSession,
        _ flow: ForwardFlow,
        patience: UInt64,
        _ onEnd: @escaping (ForwardPipe, Ending) -> Void
    ) {
        self.session = session
        self.flow = flow
        self.patience = patience
        self.onEnd = onEnd
    }

    var target: String { flow.target }
    var peer: PeerID { session.remote }
    var own: PeerID { session.local }
    var sessionNumber: UInt64 { session.number }

    func begin(on number: Int) {
        self.number = number
        alarm.set(at: session.now.addingClamped(patience))
        pump()
    }

    /// The connection that is carried.
    func use(_ socket: ForwardSocket) {
        guard !isOver else { return socket.reset() }
        self.socket = socket
        socket.receive = { [weak self] event in self?.take(event) }
        pump()
    }

    /// The connection to the target stands.
    func accept(_ socket: ForwardSocket) {
        alarm.set(at: nil)
        flow.accept()
        use(socket)
    }

    func refuse(_ refusal: ForwardRefusal) {
        flow.refuse(refusal)
        pump()
    }

    /// The other side of the TCP connection sees a reset, and the peer that the channel is closed.
    func end(_ ending: Ending) {
        guard !isOver else { return }
        isOver = true
        alarm.set(at: nil)
        if case .over = ending, flow.isDone, outputHasEnded || socket == nil {
            socket?.close()
        } else {
            socket?.reset()
        }
        socket = nil
        input = ByteBuffer()
        if !channelHasEnded, number >= 0 { session.closeChannel(number) {} }
        let onEnd = onEnd
        self.onEnd = nil
        onAsked = nil
        onEnd?(self, ending)
    }

    // MARK: The channel

    func receive(_ message: [UInt8]) {
        guard !isOver else { return }
        let error = message.withUnsafeBytes { bytes -> ForwardFlowError? in
            do throws(ForwardFlowError) {
                try flow.receive(bytes)
                return nil
            } catch {
                return error
            }
        }
        if let error { return end(.broken(error)) }
        switch flow.phase {
        case .asked:
            if let onAsked {
                self.onAsked = nil
                alarm.set(at: nil)
                onAsked(self)
            }
        case .open: alarm.set(at: nil)
        case .refused(let refusal): return end(.refused(refusal))
        case .waiting, .opening: break
        }
        pump()
    }

    func becameWritable() { pump() }

    func ended() {
        channelHasEnded = true
        // What came before the end is still written.
        if flow.needsChannel { end(.over) } else { pump() }
    }

    // MARK: TCP

    private func take(_ event: ForwardSocket.Event) {
        switch event {
        case .bytes(var bytes):
            if input.readableBytes == 0 { input = bytes } else { input.writeBuffer(&bytes) }
        case .ended: inputHasEnded = true
        case .written(let count): flow.noteWritten(count)
        case .closed:
            socket = nil
            // NIO closes a socket whose directions have both ended; what was read before still goes.
            guard inputHasEnded, outputHasEnded else { return end(.over) }
        }
        pump()
    }

    /// Moves all that can be moved between TCP and the channel. What happens meanwhile is taken in as well: a socket
    /// may take what is written at once.
    private func pump() {
        isPumpWanted = true
        guard !isPumping else { return }
        isPumping = true
        while isPumpWanted, !isOver {
            isPumpWanted = false
            deliver()
            repeat { feed() } while send() == .sent && input.readableBytes > 0 && flow.readableBytes > 0
            if let socket, !inputHasEnded, input.readableBytes == 0, flow.readableBytes > 0 { socket.read() }
        }
        isPumping = false
        guard !isOver else { return }
        if flow.isDone, outputHasEnded || socket == nil { return end(.over) }
        session.link?.settle()
    }

    private func feed() {
        while input.readableBytes > 0 {
            let count = input.withUnsafeReadableBytes { flow.read($0) }
            guard count > 0 else { return }
            input.moveReaderIndex(forwardBy: count)
        }
        if inputHasEnded { flow.end() }
    }

    private func send() -> SendOutcome {
        guard number >= 0, !channelHasEnded else { return .notOpen }
        return flow.sendWaiting { session.give($0, on: number, unsentLimit: ClientLimits.forwardUnsentBytes) }
    }

    private func deliver() {
        guard let socket else { return }
        var pieces: [[UInt8]] = []
        while let bytes = flow.takeReceived() { pieces.append(bytes) }
        socket.write(pieces)
        if flow.shouldEndWriting, !outputHasEnded {
            outputHasEnded = true
            socket.endWriting()
        }
    }
}

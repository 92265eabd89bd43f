import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket
import OpenSSLCrypto
import Traversal

/// A WebSocket on an event loop: name, TCP, TLS, the upgrade of RFC 6455 section 4.1, and messages of text.
final class NIOWebSocketClient: WebSocketLink {
    private let network: NIONetwork
    private let request: WebSocketRequest
    private let subject: String
    private var receive: ((WebSocketEvent) -> Void)?
    private var channel: (any Channel)?
    /// Of the name, not tried yet.
    private var addresses: [IPAddress] = []
    private var deadline: NIOAlarm?
    private var isOpen = false
    private var isFlushing = false
    private var failure: NetworkFailure?
    private var closeCode: UInt16 = 1006
    private(set) var serverSeconds: Int64?
    private var reached: WebSocketWay?
    private var tls: TLSSession?

    init(_ network: NIONetwork, _ request: WebSocketRequest, _ receive: @escaping (WebSocketEvent) -> Void) {
        self.network = network
        self.request = request
        self.receive = receive
        let host = request.host.contains(":") ? "[\(request.host)]" : request.host
        subject = "\(request.isSecure ? "wss" : "ws")://\(host):\(request.port)"
        deadline = NIOAlarm(network.loop) { [weak self] in self?.timedOut() }
        restartDeadline(ClientLimits.connectTime + ClientLimits.handshakeTime)
        network.resolve(request.host) { [weak self] answer in self?.resolved(answer) }
    }

    func send(_ text: String) {
        write(WebSocketFrame(fin: true, opcode: .text, maskKey: .random(), data: ByteBuffer(string: text)))
    }

    var localAddress: IPAddress? { channel?.localAddress.flatMap(SystemAddress.endpoint)?.address.withoutLink }

    var way: WebSocketWay? {
        guard var way = reached else { return nil }
        way.tls = tls.flatMap { $0.state == .handshaking || $0.state == .failed ? nil : $0.versionName }
        return way
    }

    func ping() {
        guard isOpen else { return }
        write(WebSocketFrame(fin: true, opcode: .ping, maskKey: .random(), data: ByteBuffer()))
        restartDeadline(ClientLimits.pongTime)
    }

    func close(code: UInt16) {
        receive = nil
        deadline?.set(at: nil)
        guard let channel else { return }
        self.channel = nil
        guard isOpen else { return channel.close(promise: nil) }
        isOpen = false
        Self.sayGoodbye(code, on: channel)
        channel.flush()
        // The other side answers, and closes (RFC 6455 section 7.1.1).
        channel.eventLoop.scheduleTask(in: .nanoseconds(Int64(ClientLimits.farewellTime))) {
            channel.close(promise: nil)
        }
    }

    // MARK: On the way up

    private func resolved(_ answer: NameLookup.Answer) {
        guard receive != nil else { return }
        switch answer {
        case .failure(let failure): end(failure)
        case .success(let found):
            addresses = found
            connectNext()
        }
    }

    /// One address after the other, each with its share of the time, until one takes the connection.
    private func connectNext() {
        guard receive != nil else { return }
        guard !addresses.isEmpty else { return end(failure ?? NetworkFailure(.unknownName, subject)) }
        let share = ClientLimits.connectTime / UInt64(min(addresses.count, 4))
        let endpoint = Endpoint(address: addresses.removeFirst(), port: request.port)
        let bound = NIOLoopBound(self, eventLoop: network.loop)
        let askedAt = network.nowNanoseconds
        let made = ClientBootstrap(group: network.loop)
            .connectTimeout(.nanoseconds(Int64(share)))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try bound.value.fill(channel.pipeline.syncOperations) }
            }
            .connect(to: SystemAddress.socketAddress(endpoint))
        made.assumeIsolated().whenComplete { result in
            switch result {
            case .success(let channel):
                guard self.receive != nil else { return channel.close(promise: nil) }
                let roundTrip = self.network.nowNanoseconds &- askedAt
                self.reached = WebSocketWay(server: endpoint, roundTripNanoseconds: roundTrip)
                self.channel = channel
                // It failed between its coming up and this.
                if !channel.isActive { self.ended() }
            case .failure(let error):
                self.note(NetworkFailure(error, "\(self.subject) at \(AddressText.text(endpoint))"))
                self.network.loop.assumeIsolated().execute { self.connectNext() }
            }
        }
    }

    private func fill(_ pipeline: ChannelPipeline.SynchronousOperations) throws {
        if request.isSecure {
            let session = try makeSession()
            tls = session
            try pipeline.addHandler(ClientTLSHandler(session, subject: subject))
        }
        let opener = WebSocketOpener(request, self)
        let openerBox = NIOLoopBound(opener, eventLoop: network.loop)
        let bound = NIOLoopBound(self, eventLoop: network.loop)
        let upgrader = NIOWebSocketClientUpgrader(
            maxFrameSize: ClientLimits.webSocketMessageBytes
        ) { channel, response in
            channel.eventLoop.makeCompletedFuture {
                try bound.value.upgraded(channel.pipeline.syncOperations, response, openerBox.value)
            }
        }
        try pipeline.addHTTPClientHandlers(withClientUpgrade: (upgraders: [upgrader], completionHandler: { _ in }))
        try pipeline.addHandler(opener)
    }

    private func makeSession() throws -> TLSSession {
        do throws(TLSError) {
            let context = try network.contexts.context(request.trust, protocols: ["http/1.1"], isDatagram: false)
            return try TLSSession(context, connectingTo: request.host)
        } catch {
            throw NetworkFailure(.tls, subject, detail: "\(error)")
        }
    }

    private func upgraded(
        _ pipeline: ChannelPipeline.SynchronousOperations,
        _ response: HTTPResponseHead,
        _ opener: WebSocketOpener
    ) throws {
        let settled = response.headers["sec-websocket-protocol"]
        guard settled.isEmpty || settled == [request.subprotocol].compactMap(\.self) else {
            // RFC 6455 section 4.1: one that was not asked for fails the connection.
            throw NetworkFailure(.protocolViolation, subject, detail: "the server speaks \(settled[0].prefix(60))")
        }
        serverSeconds = response.headers.first(name: "date").flatMap(HTTPDate.seconds)
        pipeline.removeHandler(opener, promise: nil)
        try pipeline.addHandler(
            NIOWebSocketFrameAggregator(
                minNonFinalFragmentSize: 0,
                maxAccumulatedFrameCount: ClientLimits.webSocketFragments,
                maxAccumulatedFrameSize: ClientLimits.webSocketMessageBytes
            )
        )
        try pipeline.addHandler(WebSocketReader(self))
        isOpen = true
        deadline?.set(at: nil)
        network.loop.assumeIsolated().execute { if self.isOpen { self.receive?(.opened) } }
    }

    // MARK: For the handlers

    fileprivate func take(_ frame: WebSocketFrame) {
        var data = frame.unmaskedData
        switch frame.opcode {
        case .text:
            guard let bytes = data.readBytes(length: data.readableBytes),
                let text = String(validating: bytes, as: UTF8.self)
            else { return violated("a text that is not UTF-8", code: 1007) }
            receive?(.text(text))
        case .ping:
            write(WebSocketFrame(fin: true, opcode: .pong, maskKey: .random(), data: data))
        case .pong: deadline?.set(at: nil)
        case .connectionClose:
            closeCode = data.readInteger(as: UInt16.self) ?? 1005
            if let channel { Self.sayGoodbye(closeCode == 1005 ? 1000 : closeCode, on: channel) }
            ended()
        default: violated("data that is not text", code: 1003)
        }
    }

    fileprivate func note(_ error: any Error) {
        guard failure == nil else { return }
        failure =
            error is HTTPParserError
            ? NetworkFailure(.notWebSocket, subject, detail: "its answer is no HTTP") : NetworkFailure(error, subject)
    }

    fileprivate func ended() {
        let clean = closeCode != 1006
        let cut =
            isOpen
            ? NetworkFailure(.reset, subject)
            : NetworkFailure(.notWebSocket, subject, detail: "it closed the connection without an answer")
        end(clean ? nil : failure ?? cut)
    }

    private func violated(_ what: String, code: UInt16) {
        if let channel { Self.sayGoodbye(code, on: channel) }
        end(NetworkFailure(.protocolViolation, subject, detail: what))
    }

    private func timedOut() {
        let detail = isOpen ? "a ping was not answered" : channel == nil ? "" : "the server did not take the WebSocket"
        end(NetworkFailure(.timedOut, subject, detail: detail))
    }

    private func end(_ failure: NetworkFailure?) {
        let receive = receive
        self.receive = nil
        isOpen = false
        deadline?.set(at: nil)
        channel?.close(promise: nil)
        channel = nil
        receive?(.closed(code: closeCode, failure))
    }

    private func restartDeadline(_ time: UInt64) { deadline?.set(at: network.nowNanoseconds &+ time) }

    private func write(_ frame: WebSocketFrame) {
        guard isOpen, let channel else { return }
        let waiting = (try? channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
        guard waiting <= ClientLimits.streamQueueBytes else {
            return network.loop.assumeIsolated().execute { self.end(NetworkFailure(.overflow, self.subject)) }
        }
        channel.write(frame, promise: nil)
        guard !isFlushing else { return }
        isFlushing = true
        network.loop.assumeIsolated().execute {
            self.isFlushing = false
            self.channel?.flush()
        }
    }

    private static func sayGoodbye(_ code: UInt16, on channel: any Channel) {
        var data = ByteBuffer()
        data.writeInteger(code)
        channel.writeAndFlush(
            WebSocketFrame(fin: true, opcode: .connectionClose, maskKey: .random(), data: data),
            promise: nil
        )
    }
}

/// Asks for the upgrade, and takes the answer of a server that does not grant it.
private final class WebSocketOpener: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private let request: WebSocketRequest
    private let link: NIOWebSocketClient

    init(_ request: WebSocketRequest, _ link: NIOWebSocketClient) {
        self.request = request
        self.link = link
    }

    func channelActive(context: ChannelHandlerContext) {
        var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: request.path)
        let host = request.host.contains(":") ? "[\(request.host)]" : request.host
        let usual: UInt16 = request.isSecure ? 443 : 80
        head.headers.add(name: "Host", value: request.port == usual ? host : "\(host):\(request.port)")
        head.headers.add(name: "User-Agent", value: "turnpike-peer/\(ClientVersion.current)")
        if let subprotocol = request.subprotocol {
            head.headers.add(name: "Sec-WebSocket-Protocol", value: subprotocol)
        }
        for (name, value) in request.headers { head.headers.add(name: name, value: value) }
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(let head) = unwrapInboundIn(data) else { return }
        link.note(
            NetworkFailure(
                .notWebSocket,
                "\(request.isSecure ? "wss" : "ws")://\(request.host):\(request.port)\(request.path)",
                detail: "HTTP \(head.status.code) \(head.status.reasonPhrase.prefix(80))",
                httpStatus: Int(head.status.code)
            )
        )
        context.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        link.note(error)
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { link.ended() }
}

private final class WebSocketReader: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame

    private let link: NIOWebSocketClient

    init(_ link: NIOWebSocketClient) { self.link = link }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { link.take(unwrapInboundIn(data)) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        link.note(error)
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { link.ended() }
}

import HTTPTypes
import NIOCore
import NIOEmbedded
import Testing

@testable import Gateway

struct HTTPHandlerTests {
    /// The moment that a client has for reading why it is closed begins when it has been told.
    @Test func aLastAnswerHasAsLongToLeaveAsAnyOther() throws {
        let channel = EmbeddedChannel()
        let wire = SlowWire()
        let handler = HTTPHandler(source: .local, answering: NoAnswers())
        try channel.pipeline.syncOperations.addHandlers([wire, handler])
        try channel.connect(to: SocketAddress(unixDomainSocketPath: "/nowhere")).wait()
        try channel.writeInbound(ByteBuffer(string: "nonsense\r\n\r\n"))
        #expect(wire.promise != nil && wire.isOutputClosed)
        channel.embeddedEventLoop.advanceTime(by: GatewayLimits.responseTime - .seconds(1))
        #expect(channel.isActive, "it is still being read")
        wire.promise?.succeed()
        #expect(channel.isActive)
        channel.embeddedEventLoop.advanceTime(by: GatewayLimits.closeTime)
        #expect(!channel.isActive)
    }

    @Test func aClientThatReadsNothingOfALastAnswerIsGone() throws {
        let channel = EmbeddedChannel()
        let wire = SlowWire()
        let handler = HTTPHandler(source: .local, answering: NoAnswers())
        try channel.pipeline.syncOperations.addHandlers([wire, handler])
        try channel.connect(to: SocketAddress(unixDomainSocketPath: "/nowhere")).wait()
        try channel.writeInbound(ByteBuffer(string: "nonsense\r\n\r\n"))
        channel.embeddedEventLoop.advanceTime(by: GatewayLimits.responseTime)
        #expect(!channel.isActive)
        wire.promise?.succeed()
    }
}

private struct NoAnswers: HTTPAnswering {
    func answer(_ request: HTTPRequest, body: ByteBuffer, from source: ClientSource) async -> HTTPOutcome {
        .answer(.problem(404))
    }
}

/// Holds what is written until the test says that it has left.
private final class SlowWire: ChannelOutboundHandler {
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private(set) var promise: EventLoopPromise<Void>?
    private(set) var isOutputClosed = false

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        self.promise = promise
    }

    func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if mode == .output { isOutputClosed = true } else { context.close(mode: mode, promise: promise) }
    }
}

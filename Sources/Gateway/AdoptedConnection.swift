import Foundation
import NIOCore
import NIOPosix
import OpenSSLCrypto

/// Connections whose TLS handshake was made elsewhere, as on a port that HTTPS shares with TURN (`listen.shared`).
extension ConnectionSetup {
    /// - Parameters:
    ///   - descriptor: A connected socket that does not block; it is closed here.
    ///   - session: Nobody has read from it since the handshake.
    func adopt(_ descriptor: Int32, _ session: SessionTransfer, on loop: any EventLoop) {
        ClientBootstrap(group: loop)
            .channelOption(.writeBufferWaterMark, value: GatewayService.waterMark)
            .channelOption(.maxMessagesPerRead, value: 1)
            .channelOption(.recvAllocator, value: GatewayService.receiving)
            // As `secure` has it.
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try self.takeIn(channel, session) }
            }
            .withConnectedSocket(descriptor)
            .whenSuccess { channel in
                // What has come with the end of the handshake waits in the session, and nothing else may follow it.
                channel.pipeline.fireChannelRead(ByteBuffer())
            }
    }

    private func takeIn(_ channel: any Channel, _ transfer: SessionTransfer) throws {
        var source = ClientSource(channel.remoteAddress)
        guard let session = transfer.take(), state.tally.admit(source, withHandshake: false) else {
            throw ChannelError.ioOnClosedChannel
        }
        let tally = state.tally
        let admitted = source
        channel.closeFuture.whenComplete { _ in tally.release(admitted) }
        session.use(space(of: channel.eventLoop))
        source.isSecure = true
        try channel.pipeline.syncOperations.addHandlers(
            [TLSHandler(session) {}, HTTPHandler(source: source, answering: core)]
        )
    }
}

import NIOCore
import NIOPosix
import Signaling

/// Connects to a client that wants to know what its NAT does with a connection from outside, once, and ends it.
enum ConnectBack {
    /// - Parameters:
    ///   - sources: addresses of this server that clients' own connections do not go to, where it has such.
    ///   - done: called once, on the loop.
    static func report(
        on loop: any EventLoop,
        to source: ClientSource,
        port: UInt16,
        from sources: [String],
        _ done: @escaping @Sendable (ProbeReport) -> Void
    ) {
        // Behind a proxy the address is the proxy's, whose ports are nobody's business, and this machine's own are not
        // either. A proxy stands here or in a private network, and ends TLS.
        let isClient = !source.isLocal && !source.isLoopback && (source.isSecure || !source.isPrivate)
        guard isClient, let target = try? SocketAddress(ipAddress: source.address, port: Int(port)) else {
            return done(ProbeReport(.impossible))
        }
        var bootstrap = ClientBootstrap(group: loop)
            .connectTimeout(.seconds(Int64(SignalingLimits.probeSeconds)))
            .channelOption(.autoRead, value: false)
        let own = sources.lazy.compactMap { try? SocketAddress(ipAddress: $0, port: 0) }
            .first { $0.protocol == target.protocol }
        if let own { bootstrap = bootstrap.bind(to: own) }
        bootstrap.connect(to: target).whenComplete { result in
            switch result {
            case .success(let channel):
                let from = channel.localAddress?.ipAddress ?? ""
                channel.close(promise: nil)
                done(ProbeReport(.accepted, address: source.address, from: from))
            case .failure(let error):
                done(ProbeReport(outcome(of: error), address: source.address, from: own?.ipAddress ?? ""))
            }
        }
    }

    private static func outcome(of error: any Error) -> ProbeReport.Outcome {
        switch error {
        case ChannelError.connectTimeout: .dropped
        case let error as IOError where error.errnoCode == ETIMEDOUT: .dropped
        case let error as IOError where error.errnoCode == ECONNREFUSED || error.errnoCode == ECONNRESET: .refused
        default: .impossible
        }
    }
}

import LinuxIO
import STUN
import TURN

/// A TCP socket that clients connect to, one for each worker and address; for TLS, one for each address.
struct StreamListener: ~Copyable {
    let descriptor: FileDescriptor
    /// Where it is bound, with the port the kernel chose.
    let endpoint: Endpoint
    let isTLS: Bool
    let isShared: Bool

    /// - Throws: `RelayError`, saying what to mend.
    init(_ address: StreamAddress, key: String) throws(RelayError) {
        let wanted = address.endpoint
        isTLS = address.isTLS
        isShared = address.isShared
        do throws(SystemCallError) {
            let socket = try TCPSocket.listen(on: wanted.storage, backlog: StreamLimits.backlog, reusePort: true)
            endpoint = Endpoint(try TCPSocket.localAddress(socket.raw))
            descriptor = socket
        } catch {
            throw RelayError(Listener.explain(error, key: key), listener: wanted)
        }
    }

    /// Readies a connection that came in here, and says who talks to whom by it; nil where it is gone already.
    func prepare(_ accepted: Int32, client: Endpoint) -> FiveTuple? {
        guard let server = try? Endpoint(TCPSocket.localAddress(accepted)) else { return nil }
        try? TCPSocket.setNoDelay(accepted)
        try? TCPSocket.setKeepalive(accepted, idleSeconds: 60, intervalSeconds: 15, probes: 4)
        return FiveTuple(client: client, server: server, transport: isTLS ? .tls : .tcp)
    }

    /// Fails when another process listens there: the listeners proper share their port among the workers.
    static func ensureFree(_ address: StreamAddress, key: String) throws(RelayError) {
        do throws(SystemCallError) {
            _ = try TCPSocket.listen(on: address.endpoint.storage, backlog: 1)
        } catch {
            throw RelayError(Listener.explain(error, key: key), listener: address.endpoint)
        }
    }
}

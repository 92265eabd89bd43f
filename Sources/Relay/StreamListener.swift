import LinuxIO
import STUN

/// A TCP socket that clients connect to, one for each worker and address.
struct StreamListener: ~Copyable {
    let descriptor: FileDescriptor
    /// Where it is bound, with the port the kernel chose.
    let endpoint: Endpoint
    let isTLS: Bool

    /// - Throws: `RelayError`, saying what to mend.
    init(_ address: StreamAddress, key: String) throws(RelayError) {
        let wanted = address.endpoint
        isTLS = address.isTLS
        do throws(SystemCallError) {
            let socket = try TCPSocket.listen(on: wanted.storage, backlog: StreamLimits.backlog, reusePort: true)
            endpoint = Endpoint(try TCPSocket.localAddress(socket.raw))
            descriptor = socket
        } catch {
            throw RelayError(Listener.explain(error, key: key), listener: wanted)
        }
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

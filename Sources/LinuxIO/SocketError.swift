import CLinux

/// Why a datagram that left a socket did not arrive: what a router or host said by ICMP, or the kernel itself.
package struct SocketError: Sendable, BitwiseCopyable {
    /// Who says so.
    package enum Origin: Sendable, BitwiseCopyable {
        case kernel, icmp, icmp6
    }

    package let origin: Origin
    /// Where the datagram was sent to. The kernel's own errors about IPv4 leave the port 0.
    package let destination: AddressParts
    /// The errno that stands for it.
    package let number: Int32
    /// ICMP's, or ICMPv6's; 0 for the kernel's own errors.
    package let type: UInt8
    package let code: UInt8
    /// The next hop's MTU in bytes, where the datagram was too long for it.
    package let information: UInt32

    /// Takes the oldest error from the queue of a socket (`UDPSocket.setErrorQueue`). Allocates nothing.
    ///
    /// - Returns: Nil when none waits.
    package static func take(from fd: Int32) -> SocketError? {
        var raw = turnpike_socket_error()
        while turnpike_receive_error(fd, &raw) == 1 {
            let origin: Origin
            switch Int32(raw.origin) {
            case TURNPIKE_ERROR_LOCAL: origin = .kernel
            case TURNPIKE_ERROR_ICMP: origin = .icmp
            case TURNPIKE_ERROR_ICMP6: origin = .icmp6
            default: continue
            }
            return SocketError(origin, raw)
        }
        return nil
    }

    private init(_ origin: Origin, _ raw: turnpike_socket_error) {
        self.origin = origin
        destination = raw.destination.parts
        number = raw.number
        type = raw.type
        code = raw.code
        information = raw.information
    }
}

import CLinux

/// A system call that failed: which, and with what errno.
package struct SystemCallError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The errno, positive.
    package let number: Int32
    /// The call's name, as its manual page has it.
    package let call: String

    package init(number: Int32, call: String) {
        self.number = number
        self.call = call
    }

    package var description: String { "\(call): \(Errno.text(number)) (errno \(number))" }
}

/// The error numbers that callers tell apart.
package enum Errno {
    package static let tryAgain = EAGAIN
    package static let badDescriptor = EBADF
    package static let addressInUse = EADDRINUSE
    package static let addressNotAvailable = EADDRNOTAVAIL
    package static let notPermitted = EPERM
    package static let accessDenied = EACCES
    package static let noBuffers = ENOBUFS
    package static let messageTooLong = EMSGSIZE
    package static let inputOutput = EIO
    package static let invalidArgument = EINVAL
    package static let networkUnreachable = ENETUNREACH
    package static let hostUnreachable = EHOSTUNREACH
    package static let connectionRefused = ECONNREFUSED
    package static let tooManyDescriptors = EMFILE
    package static let familyNotSupported = EAFNOSUPPORT

    /// Whether it may have been left by an ICMP error for an earlier datagram, so that the same call can succeed the
    /// second time (ip(7), IP_RECVERR). They are what the kernel makes of ICMP types and codes.
    @inline(__always)
    package static func mayBeLeftOver(_ number: Int32) -> Bool {
        switch number {
        case ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENONET, EMSGSIZE, ENOPROTOOPT, EOPNOTSUPP, EPROTO,
            EACCES:
            true
        default: false
        }
    }

    /// Whether a call failed because this process, or the machine, has no number left for another descriptor.
    package static func isDescriptorShortage(_ number: Int32) -> Bool {
        number == EMFILE || number == ENFILE
    }

    /// What the C library says about an errno.
    package static func text(_ number: Int32) -> String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            buffer.initialize(repeating: 0)
            guard let base = buffer.baseAddress else { return "" }
            turnpike_error_text(number, base, buffer.count)
            return String(cString: base)
        }
    }
}

/// Passes on what a C function returned, or throws when that is a negative errno.
@discardableResult
func checked(_ result: Int32, _ call: StaticString) throws(SystemCallError) -> Int32 {
    guard result < 0 else { return result }
    throw SystemCallError(number: 0 &- result, call: call.description)
}

import CLinux

/// What became of a batch, counted in datagrams, whatever the number of messages that carried them.
package struct SendResult: Equatable, Sendable, BitwiseCopyable {
    package var sent = 0
    /// Dropped because a buffer or queue was full (EAGAIN, ENOBUFS, ENOMEM).
    package var droppedBusy = 0
    /// Dropped for any other reason.
    package var droppedError = 0
    /// The last reason for a drop, 0 when nothing was dropped.
    package var lastErrno: Int32 = 0
    /// Why the kernel would not cut a message whose datagrams it then took one by one; 0 when that did not happen.
    /// EIO holds for all that leaves by the device; EINVAL and EMSGSIZE may be the matter of one destination, whose
    /// path MTU is smaller than the datagrams.
    package var refusalErrno: Int32 = 0

    package init() {}

    /// Whether the caller should send without segments from now on.
    package var segmentationRefused: Bool { refusalErrno != 0 }

    mutating func drop(_ datagrams: Int, errno number: Int32) {
        lastErrno = number
        if number == EAGAIN || number == ENOBUFS || number == ENOMEM {
            droppedBusy &+= datagrams
        } else {
            droppedError &+= datagrams
        }
    }
}

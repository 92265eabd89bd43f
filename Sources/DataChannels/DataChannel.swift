/// A channel as both ends know it.
package struct DataChannel: Sendable, Equatable {
    package enum Reliability: Sendable, Equatable {
        case reliable
        /// Each message is sent again so often at most.
        case maxRetransmits(UInt16)
        /// Each message is given up after so many milliseconds.
        case maxLifetime(UInt16)
    }

    /// The stream in both directions.
    package let id: UInt16
    package let label: String
    package let subprotocol: String
    package let isOrdered: Bool
    package let reliability: Reliability
    /// RFC 8831 section 6.4; the higher, the more often its turn comes. It is told to the peer.
    package let priority: UInt16
}

/// What a channel is opened with.
package struct DataChannelConfiguration: Sendable, Equatable {
    package var label: String
    package var subprotocol = ""
    package var isOrdered = true
    package var reliability = DataChannel.Reliability.reliable
    /// RFC 8831 section 6.4: 128 below normal, 256 normal, 512 high, 1,024 extra high.
    package var priority: UInt16 = 256
    /// For a channel that both ends open with the same id and that nothing is said about on the wire.
    package var negotiatedID: UInt16?

    package init(label: String) { self.label = label }
}

package enum DataChannelEvent: Sendable, Equatable {
    /// The association stands; channels opened before open as well.
    case opened
    /// A channel can be sent on: one of ours, or one that the peer opened.
    case channelOpened(DataChannel, byPeer: Bool)
    case message(channel: UInt16, bytes: [UInt8], isText: Bool)
    /// What `send` refused with `wouldBlock` may be tried again.
    case writable(channel: UInt16)
    /// What waits to be sent the first time fell to the channel's threshold.
    case bufferedAmountLow(channel: UInt16)
    /// Nothing more comes on the channel; its id may be used again.
    case channelClosed(channel: UInt16, DataChannelCloseReason)
    /// The association ended, and all its channels with it. The last event.
    case closed(AssociationCloseReason)
}

package enum DataChannelCloseReason: Sendable, Equatable {
    case local, peer
    /// The peer sent a message longer than was agreed.
    case messageTooLong
}

package enum AssociationCloseReason: Sendable, Equatable {
    /// `shutdown` here, or by the peer, and all data went through.
    case shutdown
    /// `abort` here.
    case aborted
    /// The peer said ABORT, or began another association in place of this one.
    case abortedByPeer
    /// The peer did not answer for as long as the options say.
    case timedOut
}

/// Why a call was refused.
package enum DataChannelError: Error, Equatable, CustomStringConvertible {
    case tooManyAssociations
    case tooManyChannels(limit: Int)
    /// A channel with the id exists, or is not closed yet.
    case idInUse(UInt16)
    /// The peer has fewer streams.
    case idTooHigh(UInt16, limit: UInt16)
    case nameTooLong(bytes: Int, limit: Int)
    case packetLimit(bytes: Int)
    case closed
    case stack(errno: Int32)

    package var description: String {
        switch self {
        case .tooManyAssociations:
            "there are \(DataChannelLimits.associations) associations in this process: close some"
        case .tooManyChannels(let limit): "the connection has \(limit) channels: close some"
        case .idInUse(let id): "channel id \(id) is in use: choose another, or wait for its channelClosed"
        case .idTooHigh(let id, let limit): "channel id \(id) is too high: the peer has \(limit) streams"
        case .nameTooLong(let bytes, let limit): "a label or protocol has \(bytes) bytes: \(limit) are allowed"
        case .packetLimit(let bytes):
            "packets of \(bytes) bytes: \(DataChannelLimits.leastPacketBytes) to "
                + "\(DataChannelLimits.packetBytes) are possible"
        case .closed: "the connection is closed"
        case .stack(let code): "the SCTP stack refused, errno \(code)"
        }
    }
}

package enum SendOutcome: Sendable, Equatable {
    case sent
    /// The send buffer is full: try again at `writable`.
    case wouldBlock
    /// Longer than the peer takes, or than the send buffer.
    case tooLong
    /// No such channel, or it is not open yet, or it is being closed.
    case notOpen
}

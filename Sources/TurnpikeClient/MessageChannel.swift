import DataChannels

/// A way for messages within a connection, beside others.
public final class MessageChannel: Sendable {
    /// What becomes of a message that gets lost on the way.
    public enum Reliability: Sendable, Hashable {
        /// It is sent again until it arrives.
        case reliable
        /// It is sent again so often at most.
        case maxRetransmits(UInt16)
        /// It is given up after so many milliseconds.
        case maxLifetime(milliseconds: UInt16)
    }

    /// The name that the side that opened it gave it.
    public let label: String
    /// The protocol that the side that opened it named; empty where it named none.
    public let subprotocol: String
    /// Whether messages arrive in the order in which they were sent.
    public let isOrdered: Bool
    /// What becomes of a message that gets lost on the way.
    public let reliability: Reliability
    /// The connection that it belongs to.
    public let connection: Connection
    let number: Int
    private let queue: MessageQueue

    init(_ channel: DataChannel, number: Int, of connection: Connection, queue: MessageQueue) {
        label = channel.label
        subprotocol = channel.subprotocol
        isOrdered = channel.isOrdered
        reliability = Reliability(channel.reliability)
        self.connection = connection
        self.number = number
        self.queue = queue
    }

    /// What arrives.
    public var messages: Messages { Messages(queue: queue) }

    /// Sends bytes. It returns when they are taken over to be sent, which waits for the peer where it reads more
    /// slowly.
    /// - Throws: `MessageChannelError`.
    public func send(_ bytes: [UInt8]) async throws { try await connection.send(Message(bytes), on: number) }

    /// Sends text.
    /// - Throws: `MessageChannelError`.
    public func send(_ text: String) async throws { try await connection.send(Message(text), on: number) }

    /// Sends a message.
    /// - Throws: `MessageChannelError`.
    public func send(_ message: Message) async throws { try await connection.send(message, on: number) }

    /// Closes the channel once its messages are through.
    public func close() async { await connection.coordinator.closeChannel(number, of: connection.id) }
}

/// Why a message or a channel was refused.
public enum MessageChannelError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The channel or its connection is closed.
    case closed
    /// The peer takes no message of this length.
    case tooLong(bytes: Int, limit: Int)
    /// Another channel cannot be had, with the reason.
    case refused(String)

    /// What is wrong, and the mend.
    public var description: String {
        switch self {
        case .closed: "the channel is closed"
        case .tooLong(let bytes, let limit):
            "a message of \(bytes) bytes is longer than the peer takes; send parts of at most \(limit)"
        case .refused(let reason): reason
        }
    }
}

extension MessageChannel.Reliability {
    init(_ reliability: DataChannel.Reliability) {
        self =
            switch reliability {
            case .reliable: .reliable
            case .maxRetransmits(let count): .maxRetransmits(count)
            case .maxLifetime(let time): .maxLifetime(milliseconds: time)
            }
    }

    var inside: DataChannel.Reliability {
        switch self {
        case .reliable: .reliable
        case .maxRetransmits(let count): .maxRetransmits(count)
        case .maxLifetime(let time): .maxLifetime(time)
        }
    }
}

import DataChannels
import Synchronization
import Traversal

/// An encrypted connection to a peer, over whatever path is best at the moment.
///
///     let connection = try await coordinator.connectToPeer("alice/desk")
///     try await connection.send("hello")
///     for await message in connection.messages { print(message.text) }
///
/// It lives until one side closes it, the coordinator shuts down, or no path was found for ten minutes.
public final class Connection: Sendable {
    /// What a connection has carried.
    public struct Statistics: Sendable, Hashable, Codable {
        /// Messages that were taken over to be sent, on all channels.
        public var messagesSent = 0
        /// Their bytes.
        public var bytesSent = 0
        /// Messages that arrived, on all channels.
        public var messagesReceived = 0
        /// Their bytes.
        public var bytesReceived = 0
        /// How often data took another path.
        public var pathChanges = 0
        /// The longest UDP datagram that data goes in at the moment. Every path carries 1,147 bytes; a direct one to
        /// another program of this library is asked for more as soon as there is enough to send, up to 1,472, and for
        /// less when what was sent no longer arrives.
        public var datagramBytes = ClientLimits.datagramBytes
    }

    private struct State {
        var path: Path?
        var roundTripNanoseconds: UInt64?
        var statistics = Statistics()
        var isOpen = true
    }

    /// Tells it from other connections of the coordinator.
    public let id: UInt64
    /// Who is at the other end.
    public let peerId: PeerID
    let coordinator: P2PCoordinator
    private let queue: MessageQueue
    private let state: Mutex<State>
    private let incoming: AsyncStream<MessageChannel>.Continuation

    /// Channels that the peer opens. Only one task may read them.
    public let channels: AsyncStream<MessageChannel>

    init(_ id: UInt64, to peer: PeerID, of coordinator: P2PCoordinator, path: ICEPath?, queue: MessageQueue) {
        self.id = id
        peerId = peer
        self.coordinator = coordinator
        self.queue = queue
        state = Mutex(State(path: path.map { Path($0) }))
        (channels, incoming) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(ClientLimits.waitingChannels))
    }

    // MARK: State

    /// The way that data takes; `nil` while it can take none.
    public var path: Path? { state.withLock { $0.path } }

    /// How the path was made. While there is none, by a relay as the last resort.
    public var method: ConnectionMethod { path?.method ?? .turnRelay }

    /// The round trip to the peer; `nil` while none was measured.
    public var rtt: Duration? {
        state.withLock { $0.roundTripNanoseconds }.map { .nanoseconds(Int64(clamping: $0)) }
    }

    /// What it has carried.
    public var statistics: Statistics { state.withLock { $0.statistics } }

    /// Whether it is not over.
    public var isOpen: Bool { state.withLock { $0.isOpen } }

    // MARK: Messages

    /// What arrives, whole and in order. A megabyte of it that nobody reads holds up what the peer sends on any
    /// channel.
    public var messages: Messages { Messages(queue: queue) }

    /// Sends bytes. It returns when they are taken over to be sent, which waits for the peer where it reads more
    /// slowly.
    /// - Throws: `MessageChannelError`.
    public func send(_ bytes: [UInt8]) async throws { try await send(Message(bytes), on: SessionChannels.own) }

    /// Sends text.
    /// - Throws: `MessageChannelError`.
    public func send(_ text: String) async throws { try await send(Message(text), on: SessionChannels.own) }

    /// Sends a message.
    /// - Throws: `MessageChannelError`.
    public func send(_ message: Message) async throws { try await send(message, on: SessionChannels.own) }

    func send(_ message: Message, on channel: Int) async throws {
        try await coordinator.send(message, on: channel, of: id)
    }

    /// Opens a channel beside the connection's own.
    /// - Parameters:
    ///   - label: what the peer is told of it.
    ///   - subprotocol: likewise.
    ///   - ordered: whether messages arrive in the order in which they were sent.
    ///   - reliability: what becomes of a message that gets lost on the way.
    /// - Throws: `MessageChannelError`.
    public func openChannel(
        label: String,
        subprotocol: String = "",
        ordered: Bool = true,
        reliability: MessageChannel.Reliability = .reliable
    ) async throws -> MessageChannel {
        var configuration = DataChannelConfiguration(label: label)
        configuration.subprotocol = subprotocol
        configuration.isOrdered = ordered
        configuration.reliability = reliability.inside
        return try await coordinator.openChannel(configuration, of: id)
    }

    /// Says goodbye; what was sent before still goes. It takes two seconds at most.
    public func close() async { await coordinator.close(id) }

    // MARK: What the session tells

    func noteSent(_ bytes: Int) {
        state.withLock { state in
            state.statistics.messagesSent += 1
            state.statistics.bytesSent += bytes
        }
    }

    func noteReceived(_ bytes: Int) {
        state.withLock { state in
            state.statistics.messagesReceived += 1
            state.statistics.bytesReceived += bytes
        }
    }

    /// - Returns: whether it is another path.
    func note(_ path: ICEPath?) -> Bool {
        let path = path.map { Path($0) }
        return state.withLock { state in
            guard state.path != path else { return false }
            state.path = path
            state.statistics.pathChanges += 1
            return true
        }
    }

    func note(datagramBytes: Int) { state.withLock { $0.statistics.datagramBytes = datagramBytes } }

    func note(roundTripNanoseconds: UInt64?) { state.withLock { $0.roundTripNanoseconds = roundTripNanoseconds } }

    func offer(_ channel: MessageChannel) { incoming.yield(channel) }

    func end() {
        state.withLock { state in
            state.isOpen = false
            state.path = nil
        }
        incoming.finish()
    }
}

import Traversal

/// Asks one STUN server over TCP what it sees of a port (RFC 8489 section 6.2.2), once. The connection stays as long as
/// the server leaves it, and with it the mapping in the NATs between.
final class StreamQuery {
    struct Answer {
        let mapped: Endpoint
        /// RFC 5780 section 7.4: where else the server can be asked.
        let other: Endpoint?
    }

    /// Whether the server has not ended the connection yet.
    private(set) var isConnected = false
    /// It was answered, or will not be.
    private(set) var isOver = false
    let server: Endpoint
    private let transaction: TransactionID
    private let answer: (Result<Answer, NetworkFailure>) -> Void
    private var link: (any StreamLink)?
    private var bytes: [UInt8] = []
    private let network: any ClientNetwork
    private lazy var alarm = network.alarm { [weak self] in self?.end(NetworkFailure(.timedOut, self?.subject ?? "")) }

    /// - Parameter answer: called once, not from within.
    init(
        _ server: Endpoint,
        from port: any StreamPort,
        _ network: any ClientNetwork,
        _ answer: @escaping (Result<Answer, NetworkFailure>) -> Void
    ) {
        (self.server, self.network, self.answer) = (server, network, answer)
        transaction = network.cryptography.randomTransaction()
        link = port.connect(to: server) { [weak self] in self?.take($0) }
        let request = [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
            var builder = MessageBuilder(
                MessageType(.binding, .request),
                transaction,
                into: UnsafeMutableRawBufferPointer(buffer)
            )
            builder.appendFingerprint()
            count = builder.finish() ?? 0
        }
        request.withUnsafeBytes { link?.send($0) }
        alarm.set(at: network.nowNanoseconds &+ ClientLimits.streamQueryTime)
    }

    deinit { close() }

    func close() {
        isOver = true
        isConnected = false
        alarm.set(at: nil)
        link?.close()
        link = nil
    }

    private var subject: String { "STUN over TCP to \(AddressText.text(server))" }

    private func take(_ event: StreamEvent) {
        switch event {
        case .opened: isConnected = true
        case .bytes(let chunk):
            // What comes behind the answer is not read.
            guard !isOver, bytes.count < ClientLimits.datagramRoomBytes else { return }
            bytes += chunk
            read()
        case .writable: break
        case .closed(let failure):
            (isConnected, link) = (false, nil)
            end(failure ?? NetworkFailure(.reset, subject))
        }
    }

    private func read() {
        guard bytes.count >= 20 else { return }
        let length = 20 + Int(bytes[2]) << 8 + Int(bytes[3])
        guard length <= ClientLimits.datagramRoomBytes else { return end(NetworkFailure(.protocolViolation, subject)) }
        guard bytes.count >= length else { return }
        let found: Answer? = bytes.withUnsafeBytes { all in
            let message = UnsafeRawBufferPointer(rebasing: all[..<length])
            guard let message = try? MessageView(message), message.transactionID == transaction,
                message.type == MessageType(.binding, .successResponse),
                let mapped = message.first(.xorMappedAddress).flatMap({ AddressAttribute.decodeXOR($0, transaction) })
            else { return nil }
            return Answer(
                mapped: mapped,
                other: message.first(.otherAddress).flatMap { AddressAttribute.decode($0) }
            )
        }
        guard let found else { return end(NetworkFailure(.protocolViolation, subject)) }
        isOver = true
        alarm.set(at: nil)
        answer(.success(found))
    }

    private func end(_ failure: NetworkFailure) {
        guard !isOver else { return }
        close()
        answer(.failure(failure))
    }
}

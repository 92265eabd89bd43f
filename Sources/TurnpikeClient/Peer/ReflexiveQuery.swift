import Traversal

/// Asks one server over and over what it sees of one socket: at first until it answers, and then as often as the NATs
/// between need to keep the mapping.
struct ReflexiveQuery {
    enum Answer {
        case mapped(Endpoint)
        case refused
    }

    let base: ICEBase
    let server: Endpoint
    /// When the next request is due.
    private(set) var due: UInt64
    /// It was not answered yet, and may still be.
    private(set) var isFresh = true
    private var transaction = TransactionID(high: 0, low: 0)
    private var sent = 0

    init(base: ICEBase, server: Endpoint, now: UInt64) {
        self.base = base
        self.server = server
        due = now
    }

    /// Nothing was answered to all requests of a round.
    var isExhausted: Bool { sent >= ClientLimits.reflexiveWaits.count }

    /// The bytes to send at `due`.
    mutating func request(now: UInt64, _ cryptography: any Cryptography) -> [UInt8] {
        if isExhausted {
            isFresh = false
            sent = 0
            due = now &+ ClientLimits.reflexiveRetry
        } else {
            due = now &+ ClientLimits.reflexiveWaits[sent]
        }
        if sent == 0 {
            var drawn = (UInt64(0), UInt32(0))
            withUnsafeMutableBytes(of: &drawn.0) { cryptography.random($0) }
            withUnsafeMutableBytes(of: &drawn.1) { cryptography.random($0) }
            transaction = TransactionID(high: drawn.0, low: drawn.1)
        }
        sent += 1
        return [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
            var builder = MessageBuilder(
                MessageType(.binding, .request),
                transaction,
                into: UnsafeMutableRawBufferPointer(buffer)
            )
            builder.appendFingerprint()
            count = builder.finish() ?? 0
        }
    }

    /// - Parameter keepAlive: until the mapping is to be refreshed.
    /// - Returns: nil for what is no answer to the request under way.
    mutating func take(_ bytes: UnsafeRawBufferPointer, now: UInt64, _ keepAlive: UInt64) -> Answer? {
        guard sent > 0, let message = try? MessageView(bytes), message.transactionID == transaction,
            message.type.method == .binding
        else { return nil }
        let mapped: Endpoint?
        switch message.type.messageClass {
        case .successResponse:
            mapped =
                message.first(.xorMappedAddress).flatMap { AddressAttribute.decodeXOR($0, transaction) }
                ?? message.first(.mappedAddress).flatMap { AddressAttribute.decode($0) }
        case .errorResponse: mapped = nil
        case .request, .indication: return nil
        }
        isFresh = false
        sent = 0
        due = now &+ keepAlive
        return mapped.map(Answer.mapped) ?? .refused
    }
}

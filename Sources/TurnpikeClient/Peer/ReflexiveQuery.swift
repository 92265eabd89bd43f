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
    /// What the last answer had, and what the NAT has made of it: a mapping that is another one each time was not kept
    /// alive, and needs requests more often.
    private var mapped: Endpoint?
    private var keepAliveDivisor: UInt64 = 1
    private var transaction = TransactionID(high: 0, low: 0)
    private var sent = 0
    /// Something else than time has happened to the mapping.
    private var isHurried = false

    init(base: ICEBase, server: Endpoint, now: UInt64) {
        self.base = base
        self.server = server
        due = now
    }

    /// Nothing was answered to all requests of a round.
    var isExhausted: Bool { sent >= ClientLimits.reflexiveWaits.count }

    /// Does not wait for the next refresh.
    mutating func hurry(now: UInt64) {
        // One that is under way is as good.
        guard sent == 0 else { return }
        due = min(due, now)
        isHurried = true
    }

    /// The mapping is to be refreshed more often than was thought.
    mutating func keepSooner(now: UInt64, _ keepAlive: UInt64) {
        if sent == 0, !isFresh { due = min(due, now &+ keepAlive / keepAliveDivisor) }
    }

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
        if let mapped {
            let hasLapsed = self.mapped.map { $0.address == mapped.address && $0.port != mapped.port } ?? false
            if hasLapsed, !isHurried { keepAliveDivisor = min(keepAliveDivisor * 2, ClientLimits.keepAliveDivisor) }
            self.mapped = mapped
        }
        isHurried = false
        due = now &+ keepAlive / keepAliveDivisor
        return mapped.map(Answer.mapped) ?? .refused
    }
}

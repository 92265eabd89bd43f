import STUN
import Synchronization
import TURN

/// Which relay ports are open, as one bit each, for readers that must not wait.
final class LivePorts: Sendable {
    private let count: Int
    // The pointer and what it points at are written once, in `init`, before another thread can have them.
    private nonisolated(unsafe) let addresses: UnsafeMutablePointer<RelayAddress>  // Only read after `init`.
    // The pointer likewise; what it points at is atomic.
    private nonisolated(unsafe) let words: UnsafeMutablePointer<Atomic<UInt64>>  // Atomic words.

    private static let wordsPerAddress = 65_536 / 64

    init(_ list: [RelayAddress]) {
        count = list.count
        addresses = .allocate(capacity: max(count, 1))
        words = .allocate(capacity: max(count, 1) * Self.wordsPerAddress)
        for (index, address) in list.enumerated() { (addresses + index).initialize(to: address) }
        for index in 0..<(count * Self.wordsPerAddress) { (words + index).initialize(to: Atomic(0)) }
    }

    deinit {
        addresses.deinitialize(count: count)
        addresses.deallocate()
        words.deinitialize(count: count * Self.wordsPerAddress)
        words.deallocate()
    }

    func set(_ index: Int, _ port: UInt16, _ isLive: Bool) {
        let word = words + (index * Self.wordsPerAddress + Int(port >> 6))
        let bit: UInt64 = 1 << UInt64(port & 63)
        if isLive {
            word.pointee.bitwiseOr(bit, ordering: .relaxed)
        } else {
            word.pointee.bitwiseAnd(~bit, ordering: .relaxed)
        }
    }

    func contains(_ endpoint: Endpoint) -> Bool {
        var index = 0
        while index < count {
            let address = addresses + index
            if address.pointee.advertised == endpoint.address || address.pointee.local == endpoint.address {
                let word = words + (index &* Self.wordsPerAddress &+ Int(endpoint.port >> 6))
                if word.pointee.load(ordering: .relaxed) & 1 << UInt64(endpoint.port & 63) != 0 { return true }
            }
            index &+= 1
        }
        return false
    }
}

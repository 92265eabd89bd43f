import Synchronization

/// On which worker each mobile allocation is: a client that has moved may come by any of them. Asked when a ticket is
/// shown, told when a mobile allocation is made, moves or ends; never asked by a packet.
final class MobileDirectory: Sendable {
    private let workers = Mutex<[UInt64: Int]>([:])

    func worker(of allocation: UInt64) -> Int? { workers.withLock { $0[allocation] } }

    func set(_ allocation: UInt64, worker: Int) { workers.withLock { $0[allocation] = worker } }

    func remove(_ allocation: UInt64) { workers.withLock { $0[allocation] = nil } }

    var count: Int { workers.withLock { $0.count } }
}

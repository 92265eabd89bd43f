import Traversal

/// Sees when this machine's addresses change, and when it was asleep: at once where the system tells, and by looking
/// every few seconds where it does not.
final class UplinkWatch {
    enum Event {
        /// Addresses have come or gone.
        case moved([LocalAddress])
        /// A link or a route is another one, and the addresses are the same: what had no way may have one.
        case stirred
        /// Nothing ran here for a while. What others keep for this machine, they may have given up.
        case resumed
    }

    private let network: any ClientNetwork
    private let onEvent: (Event) -> Void
    private var addresses: Set<IPAddress> = []
    private var system: AnyObject?
    private var lookedAt: UInt64 = 0
    private var nextStir: UInt64 = 0
    private var isStirred = false
    private var isRunning = false
    private lazy var alarm = network.alarm { [weak self] in self?.look() }

    init(_ network: any ClientNetwork, onEvent: @escaping (Event) -> Void) {
        self.network = network
        self.onEvent = onEvent
    }

    func start() {
        guard !isRunning else { return }
        isRunning = true
        addresses = present().known
        lookedAt = time
        system = network.watchAddresses { [weak self] in self?.noteSystem() }
        alarm.set(at: network.nowNanoseconds &+ ClientLimits.addressLook)
    }

    func close() {
        isRunning = false
        system = nil
        alarm.set(at: nil)
    }

    /// With the time in which the machine slept and the monotonic clock may have stood still.
    private var time: UInt64 { network.nowNanoseconds &+ network.suspendedNanoseconds }

    private func present() -> (all: [LocalAddress], known: Set<IPAddress>) {
        let all = network.localAddresses()
        return (all, Set(all.map(\.address)))
    }

    /// The first of many messages counts at once, and those behind it together a little later.
    private func noteSystem() {
        guard isRunning else { return }
        isStirred = true
        let now = network.nowNanoseconds
        let rested = now &+ ClientLimits.addressRest
        alarm.set(at: time &- lookedAt >= ClientLimits.addressRest ? now : rested)
    }

    private func look() {
        guard isRunning else { return }
        let wasAsleep = time &- lookedAt > ClientLimits.addressLook &+ ClientLimits.leastSleep
        let wasStirred = isStirred
        (lookedAt, isStirred) = (time, false)
        alarm.set(at: network.nowNanoseconds &+ ClientLimits.addressLook)
        let present = present()
        let hasMoved = present.known != addresses
        addresses = present.known
        if hasMoved { onEvent(.moved(present.all)) }
        if wasAsleep {
            onEvent(.resumed)
        } else if wasStirred, !hasMoved, lookedAt >= nextStir {
            nextStir = lookedAt &+ ClientLimits.second
            onEvent(.stirred)
        }
    }
}

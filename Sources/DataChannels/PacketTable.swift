import Synchronization

/// What usrsctp hands out, for each association by its number.
///
/// usrsctp carries an address for each association and passes it to its callbacks. Here that address is a number,
/// looked up in this table: a callback that comes late finds nothing, where a pointer would lead to memory that was
/// freed.
final class PacketTable: Sendable {
    private struct State {
        /// Each by number; the first is never used, since usrsctp takes address 0 for any address. No `wake` stands for
        /// a number that is not in use.
        var wakes: [(@Sendable () -> Void)?] = [nil]
        var packets = [PacketBatch()]
        var isWoken = [false]
        var free: [Int] = []
        var woken: [Int] = []

        func isInUse(_ number: Int) -> Bool { wakes.indices.contains(number) && wakes[number] != nil }

        mutating func noteWork(_ number: Int) {
            guard !isWoken[number] else { return }
            isWoken[number] = true
            woken.append(number)
        }
    }

    private let state = Mutex(State())

    /// - Returns: a number that no other association has; nil when all are in use. Only a number above all before has
    ///   not been given out yet.
    func reserve(wake: @escaping @Sendable () -> Void) -> Int? {
        state.withLock { state in
            if let number = state.free.popLast() {
                state.wakes[number] = wake
                return number
            }
            guard state.wakes.count <= DataChannelLimits.associations else { return nil }
            state.wakes.append(wake)
            state.packets.append(PacketBatch())
            state.isWoken.append(false)
            return state.wakes.count - 1
        }
    }

    /// Forgets an association and what waits for it.
    /// - Parameter isReusable: false for a number that usrsctp may not have let go of.
    func release(_ number: Int, isReusable: Bool) {
        // What `wake` holds may end with it, and on its end call this table again: not under the lock.
        let forgotten = state.withLock { state -> (@Sendable () -> Void)? in
            guard state.isInUse(number) else { return nil }
            let wake = state.wakes[number]
            state.wakes[number] = nil
            state.packets[number] = PacketBatch()
            state.isWoken[number] = false
            state.woken.removeAll { $0 == number }
            if isReusable { state.free.append(number) }
            return wake
        }
        withExtendedLifetime(forgotten) {}
    }

    /// A packet for the peer of `number`, from usrsctp.
    func append(_ packet: UnsafeRawBufferPointer, to number: Int) {
        state.withLock { state in
            guard state.isInUse(number), state.packets[number].count < DataChannelLimits.waitingPackets else { return }
            state.packets[number].append(packet)
            state.noteWork(number)
        }
    }

    /// usrsctp has something to read for `number`.
    func noteReadable(_ number: Int) {
        state.withLock { state in
            if state.isInUse(number) { state.noteWork(number) }
        }
    }

    /// Exchanges what waits for the peer of `number` with an empty batch, whose memory it goes on with.
    func exchange(_ batch: PacketBatch, of number: Int) -> PacketBatch {
        state.withLock { state in
            guard state.isInUse(number), state.packets[number].count > 0 else { return batch }
            var batch = batch
            swap(&state.packets[number], &batch)
            return batch
        }
    }

    /// The `wake` of each association that something happened to since the last call.
    func takeWoken() -> [@Sendable () -> Void] {
        state.withLock { state in
            let wakes = state.woken.compactMap { number in
                state.isWoken[number] = false
                return state.wakes[number]
            }
            state.woken.removeAll(keepingCapacity: true)
            return wakes
        }
    }
}

import Synchronization

/// What usrsctp hands out, for each association by its number.
///
/// usrsctp carries an address for each association and passes it to its callbacks. Here that address is a number,
/// looked up in this table: a callback that comes late finds nothing, where a pointer would lead to memory that was
/// freed.
final class PacketTable: Sendable {
    private struct Entry {
        var packets: [[UInt8]] = []
        /// How many of `packets` were taken.
        var taken = 0
        var isWoken = false
        let wake: @Sendable () -> Void
    }

    private struct State {
        /// By number; the first is never used, since usrsctp takes address 0 for any address.
        var entries: [Entry?] = [nil]
        var free: [Int] = []
        var woken: [Int] = []
    }

    private let state = Mutex(State())

    /// - Returns: a number that no other association has; nil when all are in use. Only a number above all before has
    ///   not been given out yet.
    func reserve(wake: @escaping @Sendable () -> Void) -> Int? {
        state.withLock { state in
            if let number = state.free.popLast() {
                state.entries[number] = Entry(wake: wake)
                return number
            }
            guard state.entries.count <= DataChannelLimits.associations else { return nil }
            state.entries.append(Entry(wake: wake))
            return state.entries.count - 1
        }
    }

    /// Forgets an association and what waits for it.
    /// - Parameter isReusable: false for a number that usrsctp may not have let go of.
    func release(_ number: Int, isReusable: Bool) {
        state.withLock { state in
            guard state.entries.indices.contains(number), state.entries[number] != nil else { return }
            state.entries[number] = nil
            state.woken.removeAll { $0 == number }
            if isReusable { state.free.append(number) }
        }
    }

    /// A packet for the peer of `number`, from usrsctp.
    func append(_ packet: UnsafeRawBufferPointer, to number: Int) {
        change(number) { entry in
            guard entry.packets.count - entry.taken < DataChannelLimits.waitingPackets else { return }
            entry.packets.append([UInt8](packet))
        }
    }

    /// usrsctp has something to read for `number`.
    func noteReadable(_ number: Int) { change(number) { _ in } }

    private func change(_ number: Int, _ body: (inout Entry) -> Void) {
        state.withLock { state in
            guard state.entries.indices.contains(number), var entry = state.entries[number] else { return }
            // Moved out, so that the packets are not copied.
            state.entries[number] = nil
            body(&entry)
            if !entry.isWoken {
                entry.isWoken = true
                state.woken.append(number)
            }
            state.entries[number] = entry
        }
    }

    func take(from number: Int) -> [UInt8]? {
        state.withLock { state in
            guard state.entries.indices.contains(number), var entry = state.entries[number] else { return nil }
            guard entry.taken < entry.packets.count else { return nil }
            state.entries[number] = nil
            var packet: [UInt8] = []
            swap(&packet, &entry.packets[entry.taken])
            entry.taken += 1
            if entry.taken == entry.packets.count {
                entry.packets.removeAll(keepingCapacity: true)
                entry.taken = 0
            }
            state.entries[number] = entry
            return packet
        }
    }

    /// The `wake` of each association that something happened to since the last call.
    func takeWoken() -> [@Sendable () -> Void] {
        state.withLock { state in
            let wakes = state.woken.compactMap { number in
                state.entries[number]?.isWoken = false
                return state.entries[number]?.wake
            }
            state.woken.removeAll(keepingCapacity: true)
            return wakes
        }
    }
}

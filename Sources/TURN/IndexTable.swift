/// An open-addressing table from a 32-bit hash to an index into a slab. The keys stay in the slab: a probe gives
/// candidates, and the caller compares. No references, so a look-up counts none; plain arrays, so another reader of
/// memory (a kernel fast path) could mirror it.
///
/// A slot is `hash << 32 | index + 1`, zero when empty. At most half of the slots are taken, and removal shifts back
/// what follows, so probes stay short and there are no tombstones.
package struct IndexTable: ~Copyable {
    package private(set) var count = 0
    private var slots: UnsafeMutablePointer<UInt64>
    private var mask: Int

    /// One walk over the candidates of a hash.
    package struct Probe {
        fileprivate let hash: UInt32
        fileprivate var position: Int
    }

    package init() {
        mask = Self.initialSlots - 1
        slots = .allocate(capacity: Self.initialSlots)
        slots.initialize(repeating: 0, count: Self.initialSlots)
    }

    deinit { slots.deallocate() }

    @inline(__always)
    package func probe(_ hash: UInt32) -> Probe { Probe(hash: hash, position: Int(hash) & mask) }

    /// The next index that was inserted under the probe's hash, or nil at the end of its run.
    @inline(__always)
    package func next(_ probe: inout Probe) -> UInt32? {
        while true {
            let slot = slots[probe.position]
            if slot == 0 { return nil }
            probe.position = (probe.position &+ 1) & mask
            if UInt32(truncatingIfNeeded: slot >> 32) == probe.hash { return UInt32(truncatingIfNeeded: slot) &- 1 }
        }
    }

    package mutating func insert(_ hash: UInt32, _ index: UInt32) {
        if (count + 1) * 2 > mask + 1 { grow() }
        place(UInt64(hash) << 32 | UInt64(index &+ 1))
        count += 1
    }

    package mutating func remove(_ hash: UInt32, _ index: UInt32) {
        let wanted = UInt64(hash) << 32 | UInt64(index &+ 1)
        var hole = Int(hash) & mask
        while slots[hole] != wanted {
            if slots[hole] == 0 { return }
            hole = (hole + 1) & mask
        }
        count -= 1
        var position = hole
        while true {
            position = (position + 1) & mask
            let slot = slots[position]
            if slot == 0 { break }
            let home = Int(UInt32(truncatingIfNeeded: slot >> 32)) & mask
            // A slot may move back to the hole unless its home lies behind the hole.
            if (position - home) & mask >= (position - hole) & mask {
                slots[hole] = slot
                hole = position
            }
        }
        slots[hole] = 0
    }

    private mutating func place(_ slot: UInt64) {
        var position = Int(UInt32(truncatingIfNeeded: slot >> 32)) & mask
        while slots[position] != 0 { position = (position + 1) & mask }
        slots[position] = slot
    }

    /// Doubles. This is on the slow path alone: a request inserts, a packet only looks up.
    private mutating func grow() {
        let old = slots
        let oldCount = mask + 1
        slots = .allocate(capacity: oldCount * 2)
        slots.initialize(repeating: 0, count: oldCount * 2)
        mask = oldCount * 2 - 1
        for position in 0..<oldCount where old[position] != 0 { place(old[position]) }
        old.deallocate()
    }

    private static let initialSlots = 1_024
}

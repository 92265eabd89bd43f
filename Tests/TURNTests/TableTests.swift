import TURN
import TestSupport
import Testing

/// The tables against models that are too simple to be wrong.
@Suite struct TableTests {
    @Test func anIndexTableHoldsWhatAListHolds() {
        var generator = SeededGenerator(for: "anIndexTableHoldsWhatAListHolds")
        var table = IndexTable()
        var model: [(hash: UInt32, index: UInt32)] = []
        // Hashes from a small set that share their low bits and stand at the end of the array: long runs that wrap
        // around.
        func hash(_ generator: inout SeededGenerator) -> UInt32 {
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: UInt32.random(in: .min ... .max, using: &generator)
            case 1: UInt32.random(in: 0..<8, using: &generator) << 12 | 0xFFE
            case 2: 0xFFFF_FFF0 + UInt32.random(in: 0..<16, using: &generator)
            default: UInt32.random(in: 0..<4, using: &generator)
            }
        }
        func check(_ wanted: UInt32, round: Int) -> Bool {
            var probe = table.probe(wanted)
            var found: [UInt32] = []
            while let index = table.next(&probe) { found.append(index) }
            let expected = model.filter { $0.hash == wanted }.map(\.index)
            guard found.sorted() == expected.sorted() else {
                Issue.record("seed \(generator.seed), round \(round): \(wanted) gives \(found), not \(expected)")
                return false
            }
            return true
        }
        var nextIndex: UInt32 = 0
        for round in 0..<fuzzRounds(12_000) {
            // Grows for a while, then shrinks, so that the table doubles and later empties.
            let grows = round / 3_000 % 2 == 0 ? 70 : 30
            if Int.random(in: 0..<100, using: &generator) < grows || model.isEmpty {
                let new = hash(&generator)
                table.insert(new, nextIndex)
                model.append((new, nextIndex))
                nextIndex += 1
            } else {
                let position = Int.random(in: 0..<model.count, using: &generator)
                let removed = model.swapRemove(at: position)
                table.remove(removed.hash, removed.index)
                guard check(removed.hash, round: round) else { return }
            }
            // What is not there is not removed.
            if round % 50 == 0 { table.remove(hash(&generator), .max - 1) }
            guard table.count == model.count else {
                Issue.record("seed \(generator.seed), round \(round): \(table.count) entries, not \(model.count)")
                return
            }
            let probed = round % 2 == 0 ? hash(&generator) : model.randomElement(using: &generator)?.hash ?? 0
            guard check(probed, round: round) else { return }
        }
        for entry in model { if !check(entry.hash, round: .max) { return } }
    }

    @Test func aSlabGivesEveryRecordASlotOfItsOwn() {
        var generator = SeededGenerator(for: "aSlabGivesEveryRecordASlotOfItsOwn")
        var slab = Slab<UInt64>(capacity: 100)
        var model: [UInt32: UInt64] = [:]
        var highest = 0
        for round in 0..<fuzzRounds(30_000) {
            if Int.random(in: 0..<100, using: &generator) < (round / 500 % 2 == 0 ? 60 : 40) {
                let value = generator.next()
                if let index = slab.insert(value) {
                    #expect(model[index] == nil && index < 100)
                    model[index] = value
                } else {
                    #expect(model.count == 100)
                }
            } else if let index = model.keys.randomElement(using: &generator) {
                slab.remove(index)
                model[index] = nil
            }
            highest = max(highest, model.count)
            let isRight =
                slab.count == model.count && slab.everUsed >= highest
                && model.allSatisfy { slab[$0.key].pointee == $0.value && Int($0.key) < slab.everUsed }
            guard isRight else {
                Issue.record("seed \(generator.seed), round \(round)")
                return
            }
        }
        #expect(highest == 100)
    }

    @Test func aSlabsRecordsDoNotMove() {
        var slab = Slab<UInt64>(capacity: 1_000)
        let first = slab.insert(7).map { slab[$0] }
        for value in 0..<999 as Range<UInt64> { _ = slab.insert(value) }
        #expect(first?.pointee == 7)
        #expect(slab.insert(1) == nil)
    }
}

extension Array {
    /// Removes an element by putting the last one in its place.
    fileprivate mutating func swapRemove(at position: Int) -> Element {
        swapAt(position, count - 1)
        return removeLast()
    }
}

/// The users who hold allocations, as numbers, so that an allocation needs no reference.
struct UserTable {
    private var numbers: [String: UInt32] = [:]
    private var entries: [(name: String, allocations: Int)] = []
    private var free: [UInt32] = []

    /// The user's number, counting one more allocation.
    mutating func retain(_ name: String) -> UInt32 {
        if let number = numbers[name] {
            entries[Int(number)].allocations += 1
            return number
        }
        let number: UInt32
        if let reused = free.popLast() {
            number = reused
            entries[Int(number)] = (name, 1)
        } else {
            number = UInt32(entries.count)
            entries.append((name, 1))
        }
        numbers[name] = number
        return number
    }

    mutating func release(_ number: UInt32) {
        entries[Int(number)].allocations -= 1
        guard entries[Int(number)].allocations == 0 else { return }
        numbers[entries[Int(number)].name] = nil
        entries[Int(number)].name = ""
        free.append(number)
    }

    func name(_ number: UInt32) -> String { entries[Int(number)].name }

    func number(of name: String) -> UInt32? { numbers[name] }
}

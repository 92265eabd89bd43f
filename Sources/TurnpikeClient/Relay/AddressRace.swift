import Traversal

/// In which order the addresses of a server are tried.
enum AddressRace {
    /// Both families in turns, IPv6 first (RFC 8305 section 4), and of those only families that this machine has an
    /// address of.
    /// - Parameter local: this machine's addresses.
    static func order(_ addresses: [IPAddress], local: [IPAddress]) -> [IPAddress] {
        let families = families(local)
        let usable = addresses.filter { families.contains($0.family) || isOfHere($0) }
        var six = usable.filter { !$0.isIPv4 }[...]
        var four = usable.filter(\.isIPv4)[...]
        var order: [IPAddress] = []
        while !six.isEmpty || !four.isEmpty {
            if let next = six.popFirst() { order.append(next) }
            if let next = four.popFirst() { order.append(next) }
        }
        return Array(order.prefix(ClientLimits.addressesTried))
    }

    /// Families by which this machine reaches more than its links: every interface has an IPv6 address of its link,
    /// also where there is no IPv6 beyond.
    static func families(_ local: [IPAddress]) -> Set<AddressFamily> {
        Set(local.filter { !isOfHere($0) }.map(\.family))
    }

    /// Of this machine or of a link.
    private static func isOfHere(_ address: IPAddress) -> Bool {
        if address.isIPv4 { return address.v4 >> 24 == 127 || address.v4 >> 16 == 0xA9FE }
        return address.high >> 54 == 0x3FA || address.high == 0 && address.low == 1
    }
}

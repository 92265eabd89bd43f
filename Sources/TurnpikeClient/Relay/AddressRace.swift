import Traversal

/// In which order the addresses of a server are tried.
enum AddressRace {
    /// Both families in turns, IPv6 first (RFC 8305 section 4), and of those only families that this machine has an
    /// address of.
    /// - Parameter local: this machine's addresses.
    static func order(_ addresses: [IPAddress], local: [IPAddress]) -> [IPAddress] {
        let families = Set(local.map(\.family))
        let usable = addresses.filter { families.contains($0.family) || isLoopback($0) }
        var six = usable.filter { !$0.isIPv4 }[...]
        var four = usable.filter(\.isIPv4)[...]
        var order: [IPAddress] = []
        while !six.isEmpty || !four.isEmpty {
            if let next = six.popFirst() { order.append(next) }
            if let next = four.popFirst() { order.append(next) }
        }
        return Array(order.prefix(ClientLimits.addressesTried))
    }

    private static func isLoopback(_ address: IPAddress) -> Bool {
        address.isIPv4 ? address.v4 >> 24 == 127 : address.high == 0 && address.low == 1
    }
}

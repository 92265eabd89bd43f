/// The network that an address belongs to: an IPv4 /24, or an IPv6 /48, as one household, company or block of a carrier
/// has. What is remembered is of many customers, and of none alone.
struct NetworkKey: Hashable, Comparable {
    /// The address's first bits, and in the highest bit whether it is IPv6.
    let prefix: UInt64

    init(ipv4: UInt32) { prefix = UInt64(ipv4 >> 8) }

    /// - Parameter high: the first eight bytes of the address.
    init(ipv6 high: UInt64) { prefix = 1 << 63 | high >> 16 }

    static func < (one: NetworkKey, other: NetworkKey) -> Bool { one.prefix < other.prefix }
}

/// Two networks in no order; they may be one.
struct NetworkPair: Hashable {
    let lower: NetworkKey
    let higher: NetworkKey

    init(_ one: NetworkKey, _ other: NetworkKey) {
        (lower, higher) = one < other ? (one, other) : (other, one)
    }
}

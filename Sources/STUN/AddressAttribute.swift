/// MAPPED-ADDRESS and its XORed kin (RFC 8489 sections 14.1 and 14.2).
///
///     0    1       2       4
///     ├ 0 ─┼family─┼─port──┼─ address: 4 or 16 bytes
package enum AddressAttribute {
    package static let maximumValueLength = 20

    /// The value's length for an address of that family.
    package static func valueLength(_ family: AddressFamily) -> Int { family == .ipv4 ? 8 : 20 }

    /// - Returns: nil when the length or the family is wrong.
    package static func decode(_ value: UnsafeRawBufferPointer) -> Endpoint? {
        guard value.count >= 4 else { return nil }
        let port = value.uint16(at: 2)
        switch AddressFamily(rawValue: value[1]) {
        case .ipv4 where value.count == 8:
            return Endpoint(address: IPAddress(v4: value.uint32(at: 4)), port: port)
        case .ipv6 where value.count == 20:
            return Endpoint(address: IPAddress(high: value.uint64(at: 4), low: value.uint64(at: 12)), port: port)
        default:
            return nil
        }
    }

    package static func decodeXOR(_ value: UnsafeRawBufferPointer, _ transactionID: TransactionID) -> Endpoint? {
        decode(value).map { crossed($0, transactionID) }
    }

    /// Writes the value and returns its length. The caller has room for `maximumValueLength`.
    package static func encode(_ endpoint: Endpoint, into value: UnsafeMutableRawBufferPointer) -> Int {
        write(Endpoint(address: endpoint.address.withoutLink, port: endpoint.port), into: value)
    }

    private static func write(_ endpoint: Endpoint, into value: UnsafeMutableRawBufferPointer) -> Int {
        value.store(UInt16(endpoint.family.rawValue), at: 0)
        value.store(endpoint.port, at: 2)
        if endpoint.address.isIPv4 {
            value.store(endpoint.address.v4, at: 4)
            return 8
        }
        value.store(endpoint.address.high, at: 4)
        value.store(endpoint.address.low, at: 12)
        return 20
    }

    package static func encodeXOR(
        _ endpoint: Endpoint,
        _ transactionID: TransactionID,
        into value: UnsafeMutableRawBufferPointer
    ) -> Int {
        let told = Endpoint(address: endpoint.address.withoutLink, port: endpoint.port)
        return write(crossed(told, transactionID), into: value)
    }

    /// The port is XORed with the cookie's first half; an IPv4 address with the cookie, an IPv6 address with the cookie
    /// and the transaction id behind it. Doing it twice undoes it.
    private static func crossed(_ endpoint: Endpoint, _ transactionID: TransactionID) -> Endpoint {
        let cookie = MessageView.magicCookie
        let port = endpoint.port ^ UInt16(truncatingIfNeeded: cookie >> 16)
        if endpoint.address.isIPv4 {
            return Endpoint(address: IPAddress(v4: endpoint.address.v4 ^ cookie), port: port)
        }
        let high = UInt64(cookie) << 32 | transactionID.high >> 32
        let low = transactionID.high << 32 | UInt64(transactionID.low)
        return Endpoint(
            address: IPAddress(high: endpoint.address.high ^ high, low: endpoint.address.low ^ low),
            port: port
        )
    }
}

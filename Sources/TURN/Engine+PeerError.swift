import STUN

/// What ICMP says of a datagram that left a relay.
package struct PeerErrorReport: BitwiseCopyable, Sendable {
    /// Where the datagram was sent to.
    package var destination: Endpoint
    /// ICMP's for IPv4, ICMPv6's for IPv6.
    package var type: UInt8
    package var code: UInt8
    /// The next hop's, where the datagram was too long for it.
    package var mtu: UInt32

    package init(destination: Endpoint, type: UInt8, code: UInt8, mtu: UInt32) {
        self.destination = destination
        self.type = type
        self.code = code
        self.mtu = mtu
    }

    /// A datagram that did not leave, since it is longer than the path takes: what the first router would have said.
    package init(tooLongFor destination: Endpoint, mtu: UInt32) {
        let isIPv4 = destination.address.isIPv4
        self.init(destination: destination, type: isIPv4 ? 3 : 2, code: isIPv4 ? 4 : 0, mtu: mtu)
    }

    /// RFC 8656 section 11.5: destination unreachable and time exceeded, and with IPv6 packet too big.
    var concernsClients: Bool { destination.address.isIPv4 ? type == 3 || type == 11 : (1...3).contains(type) }

    /// The value of the ICMP attribute (RFC 8656 section 18.13).
    ///
    ///     reserved 16 │ type 7 │ code 9 │ error data 32 bits
    ///
    /// The error data is the MTU for IPv4's "fragmentation needed" and IPv6's "packet too big", and otherwise zero.
    var attributeValue: UInt64 {
        let isAboutLength = destination.address.isIPv4 ? type == 3 && code == 4 : type == 2
        return UInt64(type & 0x7F) << 41 | UInt64(code) << 32 | (isAboutLength ? UInt64(mtu) : 0)
    }
}

extension Engine {
    /// Tells a client that what it sent to a peer has not arrived. Allocates nothing.
    ///
    /// - Parameter reply: room for the Data indication; 100 bytes hold any.
    /// - Returns: its length, or nil where the client shall not hear of it: the peer has no permission, the error is
    ///   not of the kinds that are told, or the allocation has been told enough in this second.
    package mutating func peerError(
        _ report: PeerErrorReport,
        allocation index: UInt32,
        at moment: Moment,
        into reply: UnsafeMutableRawBufferPointer
    ) -> Int? {
        counters.peerErrors &+= 1
        let peer = ownHost.canonicalSource(report.destination)
        guard report.concernsClients, peer.port != 0 else { return nil }
        let permission = permission(index, peer.address)
        guard permission != noIndex,
            permissions[permission].pointee.expiryNanoseconds > moment.monotonicNanoseconds,
            mayTellError(of: index, at: moment)
        else { return nil }
        var random = (UInt64(0), UInt32(0))
        withUnsafeMutableBytes(of: &random) { cryptography.random($0) }
        var builder = MessageBuilder(
            MessageType(.data, .indication),
            TransactionID(high: random.0, low: random.1),
            into: reply
        )
        builder.append(.xorPeerAddress, xor: peer)
        builder.append(.icmp, report.attributeValue)
        guard let length = builder.finish() else { return nil }
        counters.peerErrorsTold &+= 1
        return length
    }

    /// Errors come at the rate of the client's own datagrams, or of whoever forges them. Counted by seconds and not in
    /// a bucket: what matters is that the answers to a burst are few.
    private func mayTellError(of index: UInt32, at moment: Moment) -> Bool {
        let slot = allocations[index]
        let second = UInt32(truncatingIfNeeded: moment.monotonicNanoseconds / 1_000_000_000)
        if slot.pointee.errorSecond != second {
            slot.pointee.errorSecond = second
            slot.pointee.errorsTold = 0
        }
        guard slot.pointee.errorsTold < Limits.peerErrorsPerSecond else { return false }
        slot.pointee.errorsTold &+= 1
        return true
    }
}

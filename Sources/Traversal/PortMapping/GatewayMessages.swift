import STUN

/// PCP's messages (RFC 6887 sections 7 and 11).
enum PCPMessage {
    static let version: UInt8 = 2
    static let nonceBytes = 12

    enum Answer: Equatable {
        case announce(Head)
        case map(Head, Map)
        /// To a request that is not ours.
        case other
    }

    struct Head: Equatable {
        var resultCode: UInt8
        var lifetimeSeconds: UInt32
        var epochSeconds: UInt32
    }

    struct Map: Equatable {
        var nonce: [UInt8]
        var transport: InternalPort.Transport
        var internalPort: UInt16
        /// Nil for an address that is no IPv4 address.
        var external: Endpoint?
    }

    /// Section 14.1: opcode 0, with nothing behind the head.
    static func announceRequest(from client: IPAddress) -> [UInt8] { head(opcode: 0, lifetimeSeconds: 0, client) }

    /// Section 11.1.
    /// - Parameters:
    ///   - lifetimeSeconds: 0 takes the mapping back (section 15.1), with nothing suggested.
    ///   - suggested: what it was before, or is wished to be; the address may be 0.0.0.0.
    static func mapRequest(
        _ port: InternalPort,
        nonce: [UInt8],
        lifetimeSeconds: UInt32,
        suggested: Endpoint?,
        from client: IPAddress
    ) -> [UInt8] {
        var bytes = head(opcode: 1, lifetimeSeconds: lifetimeSeconds, client)
        bytes += nonce
        bytes += [port.transport.rawValue, 0, 0, 0]
        bytes.append(port.port)
        bytes.append(suggested?.port ?? 0)
        bytes.append(address: suggested?.address ?? IPAddress(v4: 0))
        return bytes
    }

    /// - Returns: nil for what is no answer of this version.
    static func answer(_ bytes: [UInt8]) -> Answer? {
        // Section 8.3: a response has 24 bytes at least, 1,100 at most, and a multiple of four.
        guard bytes.count >= 24, bytes.count <= PortMappingLimits.messageBytes, bytes.count % 4 == 0,
            bytes[0] == version, bytes[1] & 0x80 != 0
        else { return nil }
        let head = Head(
            resultCode: bytes[3],
            lifetimeSeconds: bytes.uint32(at: 4),
            epochSeconds: bytes.uint32(at: 8)
        )
        switch bytes[1] & 0x7F {
        case 0: return .announce(head)
        case 1:
            guard bytes.count >= 60, let transport = InternalPort.Transport(rawValue: bytes[36]) else { return .other }
            let port = bytes.uint16(at: 42)
            let isMapped = bytes[44..<54].allSatisfy { $0 == 0 } && bytes[54] == 0xFF && bytes[55] == 0xFF
            let map = Map(
                nonce: Array(bytes[24..<36]),
                transport: transport,
                internalPort: bytes.uint16(at: 40),
                external: isMapped ? Endpoint(address: IPAddress(v4: bytes.uint32(at: 56)), port: port) : nil
            )
            return .map(head, map)
        default: return .other
        }
    }

    private static func head(opcode: UInt8, lifetimeSeconds: UInt32, _ client: IPAddress) -> [UInt8] {
        var bytes: [UInt8] = [version, opcode, 0, 0]
        bytes.append(lifetimeSeconds)
        bytes.append(address: client)
        return bytes
    }
}

/// NAT-PMP's messages (RFC 6886 sections 3.2 to 3.5).
enum NATPMPMessage {
    enum Answer: Equatable {
        case address(resultCode: UInt16, epochSeconds: UInt32, IPAddress?)
        case map(resultCode: UInt16, epochSeconds: UInt32, Map?)
        /// Section 3.5, also what a server of NAT-PMP alone says to PCP (RFC 6887 appendix A).
        case unsupportedVersion
    }

    struct Map: Equatable {
        var port: InternalPort
        var externalPort: UInt16
        var lifetimeSeconds: UInt32
    }

    static let addressRequest: [UInt8] = [0, 0]

    /// Section 3.3; a lifetime of 0 takes it back, with an external port of 0 (section 3.4).
    static func mapRequest(_ port: InternalPort, externalPort: UInt16, lifetimeSeconds: UInt32) -> [UInt8] {
        var bytes: [UInt8] = [0, port.transport == .udp ? 1 : 2, 0, 0]
        bytes.append(port.port)
        bytes.append(lifetimeSeconds == 0 ? 0 : externalPort)
        bytes.append(lifetimeSeconds)
        return bytes
    }

    /// - Returns: nil for what is no answer of this version.
    static func answer(_ bytes: [UInt8]) -> Answer? {
        guard bytes.count >= 4, bytes.count <= PortMappingLimits.messageBytes, bytes[0] == 0, bytes[1] & 0x80 != 0
        else { return nil }
        let code = bytes.uint16(at: 2)
        if code == 1 { return .unsupportedVersion }
        guard bytes.count >= 8 else { return nil }
        let epoch = bytes.uint32(at: 4)
        switch bytes[1] & 0x7F {
        case 0:
            guard code == 0 else { return .address(resultCode: code, epochSeconds: epoch, nil) }
            guard bytes.count >= 12 else { return nil }
            return .address(resultCode: 0, epochSeconds: epoch, IPAddress(v4: bytes.uint32(at: 8)))
        case let opcode where opcode == 1 || opcode == 2:
            guard bytes.count >= 16 else {
                return code == 0 ? nil : .map(resultCode: code, epochSeconds: epoch, nil)
            }
            let map = Map(
                port: InternalPort(opcode == 1 ? .udp : .tcp, bytes.uint16(at: 8)),
                externalPort: bytes.uint16(at: 10),
                lifetimeSeconds: bytes.uint32(at: 12)
            )
            return .map(resultCode: code, epochSeconds: epoch, map)
        default: return nil
        }
    }
}

extension [UInt8] {
    fileprivate mutating func append(_ value: UInt16) {
        append(UInt8(truncatingIfNeeded: value >> 8))
        append(UInt8(truncatingIfNeeded: value))
    }

    fileprivate mutating func append(_ value: UInt32) {
        append(UInt16(truncatingIfNeeded: value >> 16))
        append(UInt16(truncatingIfNeeded: value))
    }

    /// RFC 6887 section 5: an IPv4 address stands in an IPv6 address.
    fileprivate mutating func append(address: IPAddress) {
        for half in [address.high, address.low] {
            append(UInt32(truncatingIfNeeded: half >> 32))
            append(UInt32(truncatingIfNeeded: half))
        }
    }

    // The callers have checked the length.
    fileprivate func uint16(at offset: Int) -> UInt16 { UInt16(self[offset]) << 8 | UInt16(self[offset + 1]) }

    fileprivate func uint32(at offset: Int) -> UInt32 {
        UInt32(uint16(at: offset)) << 16 | UInt32(uint16(at: offset + 2))
    }
}

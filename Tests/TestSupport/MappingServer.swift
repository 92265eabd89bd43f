/// A gateway's server of PCP (RFC 6887) and NAT-PMP (RFC 6886), as far as the packets go: bytes and the time in, bytes
/// out. It is written from the RFCs, without a line of the client's.
package struct MappingServer {
    package struct Mapping: Equatable {
        package var transport: UInt8
        package var client: UInt32
        package var internalPort: UInt16
        package var externalPort: UInt16
        package var nonce: [UInt8]
        package var expiresAt: UInt64
    }

    package var externalAddress: UInt32
    package var speaksPCP = true
    package var speaksNATPMP = true
    /// The result code of every request for a mapping; 0 for success.
    package var refusal: UInt8 = 0
    package var longestLifetimeSeconds: UInt32 = 86_400
    /// Ports that somebody else has.
    package var taken: Set<UInt16> = []
    package var bootedAt: UInt64
    package private(set) var mappings: [Mapping] = []
    /// Requests that came, by what they are.
    package private(set) var requests: [String] = []

    package init(externalAddress: UInt32, now: UInt64) {
        self.externalAddress = externalAddress
        bootedAt = now
    }

    package mutating func reboot(_ now: UInt64) {
        mappings = []
        bootedAt = now
    }

    package mutating func forgetExpired(_ now: UInt64) { mappings.removeAll { $0.expiresAt <= now } }

    /// What is told to everybody after a start: RFC 6887 section 14.1.1, RFC 6886 section 3.2.1.
    package func announcements(_ now: UInt64) -> [[UInt8]] {
        (speaksPCP ? [pcpHead(opcode: 0, result: 0, lifetime: 0, now)] : [])
            + (speaksNATPMP ? [[0, 128, 0, 0] + Self.bytes(epoch(now)) + Self.bytes(externalAddress)] : [])
    }

    package mutating func answer(_ bytes: [UInt8], from client: UInt32, _ now: UInt64) -> [UInt8]? {
        forgetExpired(now)
        guard bytes.count >= 2, bytes[1] < 128 else { return nil }
        if bytes[0] == 2, speaksPCP { return pcp(bytes, client, now) }
        guard speaksNATPMP else { return nil }
        // RFC 6886 section 3.5.
        guard bytes[0] == 0 else { return [0, 128 | bytes[1], 0, 1] + Self.bytes(epoch(now)) }
        return natPMP(bytes, client, now)
    }

    private func epoch(_ now: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: (now - min(bootedAt, now)) / 1_000_000_000)
    }

    // MARK: PCP

    private func pcpHead(opcode: UInt8, result: UInt8, lifetime: UInt32, _ now: UInt64) -> [UInt8] {
        [2, 128 | opcode, 0, result] + Self.bytes(lifetime) + Self.bytes(epoch(now)) + [UInt8](repeating: 0, count: 12)
    }

    private mutating func pcp(_ bytes: [UInt8], _ client: UInt32, _ now: UInt64) -> [UInt8]? {
        guard bytes.count >= 24, bytes.count % 4 == 0 else { return nil }
        let opcode = bytes[1]
        // Section 8.2: the client's address, as it sees it.
        let inside = [UInt8](repeating: 0, count: 10) + [255, 255] + Self.bytes(client)
        guard Array(bytes[8..<24]) == inside else { return pcpHead(opcode: opcode, result: 12, lifetime: 30, now) }
        if opcode == 0 {
            requests.append("announce")
            return pcpHead(opcode: 0, result: 0, lifetime: 0, now)
        }
        guard opcode == 1, bytes.count >= 60 else { return pcpHead(opcode: opcode, result: 4, lifetime: 1_800, now) }
        let lifetime = Self.uint32(bytes, 4)
        requests.append(lifetime == 0 ? "pcp delete" : "pcp map")
        guard refusal == 0 else {
            return pcpHead(opcode: 1, result: refusal, lifetime: 30, now) + bytes[24..<60]
        }
        let (nonce, transport) = (Array(bytes[24..<36]), bytes[36])
        let (internalPort, suggested) = (Self.uint16(bytes, 40), Self.uint16(bytes, 42))
        let known = mappings.firstIndex {
            $0.transport == transport && $0.client == client && $0.internalPort == internalPort
        }
        // Section 11.3: somebody else's mapping is not touched.
        if let known, mappings[known].nonce != nonce {
            return pcpHead(opcode: 1, result: 2, lifetime: 1_800, now) + bytes[24..<60]
        }
        if lifetime == 0 {
            if let known { mappings.remove(at: known) }
            return pcpHead(opcode: 1, result: 0, lifetime: 0, now) + bytes[24..<60]
        }
        let mapping = make(known, transport, client, internalPort, suggested, nonce, lifetime, now)
        return pcpHead(opcode: 1, result: 0, lifetime: granted(lifetime), now) + bytes[24..<42]
            + Self.bytes(mapping.externalPort) + [UInt8](repeating: 0, count: 10) + [255, 255]
            + Self.bytes(externalAddress)
    }

    // MARK: NAT-PMP

    private mutating func natPMP(_ bytes: [UInt8], _ client: UInt32, _ now: UInt64) -> [UInt8]? {
        let opcode = bytes[1]
        if opcode == 0 {
            requests.append("address")
            return [0, 128, 0, 0] + Self.bytes(epoch(now)) + Self.bytes(externalAddress)
        }
        guard opcode <= 2, bytes.count >= 12 else { return [0, 128 | opcode, 0, 5] + Self.bytes(epoch(now)) }
        let (internalPort, suggested) = (Self.uint16(bytes, 4), Self.uint16(bytes, 6))
        let lifetime = Self.uint32(bytes, 8)
        requests.append(lifetime == 0 ? "nat-pmp delete" : "nat-pmp map")
        let head: [UInt8] = [0, 128 | opcode, 0, refusal] + Self.bytes(epoch(now)) + Self.bytes(internalPort)
        guard refusal == 0 else { return head + [0, 0, 0, 0, 0, 0] }
        let transport: UInt8 = opcode == 1 ? 17 : 6
        let known = mappings.firstIndex {
            $0.transport == transport && $0.client == client && $0.internalPort == internalPort
        }
        if lifetime == 0 {
            if let known { mappings.remove(at: known) }
            return head + [0, 0, 0, 0, 0, 0]
        }
        let mapping = make(known, transport, client, internalPort, suggested, [], lifetime, now)
        return head + Self.bytes(mapping.externalPort) + Self.bytes(granted(lifetime))
    }

    // MARK: Mappings

    private func granted(_ lifetime: UInt32) -> UInt32 { min(lifetime, longestLifetimeSeconds) }

    private mutating func make(
        _ known: Int?,
        _ transport: UInt8,
        _ client: UInt32,
        _ internalPort: UInt16,
        _ suggested: UInt16,
        _ nonce: [UInt8],
        _ lifetime: UInt32,
        _ now: UInt64
    ) -> Mapping {
        let expiresAt = now + UInt64(granted(lifetime)) * 1_000_000_000
        if let known {
            mappings[known].expiresAt = expiresAt
            return mappings[known]
        }
        var port = suggested == 0 ? internalPort : suggested
        while taken.contains(port) || mappings.contains(where: { $0.transport == transport && $0.externalPort == port })
        {
            port = port &+ 1
        }
        let mapping = Mapping(
            transport: transport,
            client: client,
            internalPort: internalPort,
            externalPort: port,
            nonce: nonce,
            expiresAt: expiresAt
        )
        mappings.append(mapping)
        return mapping
    }

    private static func bytes(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }

    private static func bytes(_ value: UInt32) -> [UInt8] {
        bytes(UInt16(value >> 16)) + bytes(UInt16(value & 0xFFFF))
    }

    private static func uint16(_ bytes: [UInt8], _ offset: Int) -> UInt16 {
        UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1])
    }

    private static func uint32(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
        UInt32(uint16(bytes, offset)) << 16 | UInt32(uint16(bytes, offset + 2))
    }
}

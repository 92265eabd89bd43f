import CUsrSCTP

/// The association's own handshake by other means than its packets: INIT travels with an offer, and INIT ACK with the
/// answer. Both ends stand before there is a path, so that the first packet by it may be data.
///
/// The two messages that are left, COOKIE ECHO and COOKIE ACK, prove to a listener that whoever sent the INIT is at its
/// address, so that strangers cannot fill its memory (RFC 9260 section 5.1). Signaling has told already who the peer
/// is, and each end holds one association for it in any case; so each end gives itself the message that it would wait
/// for. What the INITs say is no secret and proves nothing: verification tags and windows. Whoever changed one would
/// only have an association that does not work, since every packet comes out of DTLS, which has the peer's fingerprint.
extension DataChannelAssociation {
    /// Begins, and gives the packet with INIT instead of handing it out.
    /// - Returns: nil where usrsctp gives none; the association is of no use then.
    package func makeInitiation() -> [UInt8]? {
        guard phase == .idle, (try? connect()) != nil else { return nil }
        let packet = takeSignaled()
        return packet.flatMap { SignaledChunk($0, .initiation, options) == nil ? nil : $0 }
    }

    /// The answering end: takes the peer's INIT and stands. `opened` follows.
    /// - Returns: the packet with INIT ACK; nil for what is no INIT. The association is of no use then.
    package func answer(initiation packet: [UInt8]) -> [UInt8]? {
        // An INIT of its own gives it the verification tag that the answer has (RFC 9260 section 5.2.1).
        guard SignaledChunk(packet, .initiation, options) != nil, makeInitiation() != nil else { return nil }
        packet.withUnsafeBytes(receive)
        guard let answer = takeSignaled(),
            let acknowledgement = SignaledChunk(answer, .initiationAcknowledgement, options),
            let cookie = acknowledgement.cookie
        else { return nil }
        acknowledgement.packet(.cookieEcho, cookie, tag: acknowledgement.initiateTag, from: options.remotePort, options)
            .withUnsafeBytes(receive)
        // COOKIE ACK, which the peer has given itself.
        dropPackets()
        return phase == .open ? answer : nil
    }

    /// The end that made the INIT: takes the answer and stands. `opened` follows.
    /// - Parameter initiation: what `makeInitiation` gave.
    /// - Returns: whether it was the answer. Otherwise the association is of no use.
    package func finish(initiation: [UInt8], answer packet: [UInt8]) -> Bool {
        guard phase == .connecting, let own = SignaledChunk(initiation, .initiation, options),
            let answer = SignaledChunk(packet, .initiationAcknowledgement, options), answer.tag == own.initiateTag
        else { return false }
        packet.withUnsafeBytes(receive)
        answer.packet(.cookieAcknowledgement, [], tag: own.initiateTag, from: options.remotePort, options)
            .withUnsafeBytes(receive)
        // COOKIE ECHO, which the peer has given itself, and INITs that were sent again meanwhile.
        dropPackets()
        return phase == .open
    }

    /// The last packet that waits is the newest.
    private func takeSignaled() -> [UInt8]? {
        var last: [UInt8]?
        while let packet = nextPacket() { last = packet }
        return last
    }

    private func dropPackets() { _ = takeSignaled() }
}

/// A packet with one chunk, which both ends of a signaled handshake make and read.
private struct SignaledChunk {
    enum Kind: UInt8 {
        case initiation = 1
        case initiationAcknowledgement = 2
        case cookieEcho = 10
        case cookieAcknowledgement = 11
    }

    /// Of the packet.
    let tag: UInt32
    /// RFC 9260 section 3.3.2.
    let initiateTag: UInt32
    let cookie: [UInt8]?

    /// - Parameter bytes: from this end or the peer's; the ports of both have to be those of the options.
    /// - Returns: nil for what is not one whole chunk of that kind and nothing else.
    init?(_ bytes: [UInt8], _ kind: Kind, _ options: DataChannelOptions) {
        guard bytes.count >= Self.parametersAt, bytes.count <= DataChannelLimits.signaledPacketBytes,
            bytes[Self.chunkAt] == kind.rawValue
        else { return nil }
        let length = Int(Self.short(bytes, Self.chunkAt + 2))
        let ports = [Self.short(bytes, 0), Self.short(bytes, 2)]
        guard Self.chunkAt + (length + 3) & ~3 == bytes.count, length >= Self.parametersAt - Self.chunkAt,
            ports == [options.localPort, options.remotePort] || ports == [options.remotePort, options.localPort]
        else { return nil }
        tag = Self.long(bytes, 4)
        initiateTag = Self.long(bytes, Self.chunkAt + 4)
        // Section 3.3.2: no association has tag 0, and a packet with INIT has no other.
        guard initiateTag != 0, (tag == 0) == (kind == .initiation) else { return nil }
        cookie = Self.cookie(bytes, until: Self.chunkAt + length)
    }

    /// A packet to this end, as the peer would send it.
    func packet(
        _ kind: Kind,
        _ value: [UInt8],
        tag: UInt32,
        from source: UInt16,
        _ options: DataChannelOptions
    ) -> [UInt8] {
        let length = 4 + value.count
        var bytes: [UInt8] = []
        for port in [source, options.localPort] { bytes += [UInt8(port >> 8), UInt8(port & 0xFF)] }
        for shift in [24, 16, 8, 0] { bytes.append(UInt8(tag >> UInt32(shift) & 0xFF)) }
        bytes += [0, 0, 0, 0, kind.rawValue, 0, UInt8(length >> 8 & 0xFF), UInt8(length & 0xFF)]
        bytes += value + [UInt8](repeating: 0, count: (4 - length % 4) % 4)
        bytes.withUnsafeMutableBytes { turnpike_sctp_sign($0.baseAddress, $0.count) }
        return bytes
    }

    /// The State Cookie (section 3.3.3.1.1); nil where there is none.
    private static func cookie(_ bytes: [UInt8], until end: Int) -> [UInt8]? {
        var offset = parametersAt
        while offset + 4 <= end {
            let length = Int(short(bytes, offset + 2))
            guard length >= 4, offset + length <= end else { return nil }
            if short(bytes, offset) == stateCookie { return Array(bytes[(offset + 4)..<(offset + length)]) }
            offset += (length + 3) & ~3
        }
        return nil
    }

    private static let chunkAt = 12
    private static let parametersAt = 32
    private static let stateCookie: UInt16 = 7

    private static func short(_ bytes: [UInt8], _ at: Int) -> UInt16 { UInt16(bytes[at]) << 8 | UInt16(bytes[at + 1]) }

    private static func long(_ bytes: [UInt8], _ at: Int) -> UInt32 {
        UInt32(short(bytes, at)) << 16 | UInt32(short(bytes, at + 2))
    }
}

/// A message of the Data Channel Establishment Protocol (RFC 8832 section 5).
enum EstablishmentMessage: Equatable {
    case open(DataChannel)
    case acknowledgement

    private static let openType: UInt8 = 0x03
    private static let acknowledgementType: UInt8 = 0x02
    private static let unorderedBit: UInt8 = 0x80
    private static let openHeaderBytes = 12

    /// - Parameter id: the stream that the message came on.
    /// - Returns: nil for what is no message of the protocol, or has names longer than allowed.
    init?(_ bytes: some RandomAccessCollection<UInt8>, id: UInt16) {
        let bytes = Array(bytes)
        if bytes.first == Self.acknowledgementType {
            self = .acknowledgement
            return
        }
        guard bytes.first == Self.openType, bytes.count >= Self.openHeaderBytes else { return nil }
        func value(_ offset: Int) -> UInt16 { UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1]) }
        // RFC 8832 section 5.1: it has 32 bits, of which no sender uses more than W3C's 16.
        let parameter = value(4) == 0 ? value(6) : UInt16.max
        let reliability: DataChannel.Reliability
        switch bytes[1] & ~Self.unorderedBit {
        case 0: reliability = .reliable
        case 1: reliability = .maxRetransmits(parameter)
        case 2: reliability = .maxLifetime(parameter)
        default: return nil
        }
        let labelEnd = Self.openHeaderBytes + Int(value(8))
        let end = labelEnd + Int(value(10))
        guard end == bytes.count, value(8) <= DataChannelLimits.nameBytes, value(10) <= DataChannelLimits.nameBytes
        else { return nil }
        self = .open(
            DataChannel(
                id: id,
                label: String(decoding: bytes[Self.openHeaderBytes..<labelEnd], as: UTF8.self),
                subprotocol: String(decoding: bytes[labelEnd..<end], as: UTF8.self),
                isOrdered: bytes[1] & Self.unorderedBit == 0,
                reliability: reliability,
                priority: value(2)
            )
        )
    }

    var bytes: [UInt8] {
        guard case .open(let channel) = self else { return [Self.acknowledgementType] }
        let (type, parameter): (UInt8, UInt16) =
            switch channel.reliability {
            case .reliable: (0, 0)
            case .maxRetransmits(let count): (1, count)
            case .maxLifetime(let milliseconds): (2, milliseconds)
            }
        let label = Array(channel.label.utf8.prefix(DataChannelLimits.nameBytes))
        let subprotocol = Array(channel.subprotocol.utf8.prefix(DataChannelLimits.nameBytes))
        var bytes = [Self.openType, channel.isOrdered ? type : type | Self.unorderedBit]
        for value in [channel.priority, 0, parameter, UInt16(label.count), UInt16(subprotocol.count)] {
            bytes += [UInt8(value >> 8), UInt8(value & 0xFF)]
        }
        return bytes + label + subprotocol
    }
}

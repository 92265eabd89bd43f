/// Whether the parameters of INIT and INIT ACK can be walked (RFC 9260 section 3.2.1): each is as long as its header at
/// least, and within its chunk.
///
/// usrsctp looks for addresses among those of an INIT that comes for an association which it has, and goes on by each
/// parameter's length whatever that is. At one of length zero it stays for ever, and with it the whole process, since
/// every association waits for its lock. Its other walks, of error causes, of RE-CONFIG, of ASCONF and of the INIT that
/// a State Cookie holds, end at such a length; and no cookie holds an INIT that has not come through here.
enum InitiationCheck {
    /// - Parameter packet: with its common header.
    /// - Returns: false for a packet that usrsctp must not see.
    static func passes(_ packet: UnsafeRawBufferPointer) -> Bool {
        var offset = commonHeaderBytes
        while offset + headerBytes <= packet.count {
            let length = short(packet, offset + 2)
            // Control chunks come before all data (section 6.10), and usrsctp ends at a length that cannot be.
            guard packet[offset] != dataChunk, length >= headerBytes, length <= packet.count - offset else {
                return true
            }
            if initiations.contains(packet[offset]), !areWhole(packet, offset + fixedBytes, end: offset + length) {
                return false
            }
            offset += padded(length)
        }
        return true
    }

    private static func areWhole(_ packet: UnsafeRawBufferPointer, _ start: Int, end: Int) -> Bool {
        guard start <= end else { return false }
        var offset = start
        while offset < end {
            // Fewer bytes than a header would be read on into the chunk's padding, which says length zero.
            guard end - offset >= headerBytes else { return false }
            let length = short(packet, offset + 2)
            guard length >= headerBytes, length <= end - offset else { return false }
            offset += padded(length)
        }
        return true
    }

    private static let commonHeaderBytes = 12
    /// Of a chunk and of a parameter: type and length.
    private static let headerBytes = 4
    /// What an INIT has before its parameters (section 3.3.2), and an INIT ACK as well.
    private static let fixedBytes = 20
    private static let dataChunk: UInt8 = 0
    private static let initiations: ClosedRange<UInt8> = 1...2

    private static func padded(_ length: Int) -> Int { (length + 3) & ~3 }

    private static func short(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> Int {
        Int(bytes[at]) << 8 | Int(bytes[at + 1])
    }
}

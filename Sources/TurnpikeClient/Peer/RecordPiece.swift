import Traversal

// mark │ part 4 bits, parts 4 bits │ number 4 │ bytes of the record

/// A part of a record that is longer than the datagrams of the path it goes by: one that SCTP has made for a wider path
/// and sends again, since it does not cut anew what it has numbered, or one of several chunks.
///
/// It goes to peers alone that have announced `ICERemoteParameters.padding`. Nothing of a piece is proved; what is put
/// together opens as a record, or not.
struct RecordPiece {
    let part: Int
    let parts: Int
    let number: UInt32
    let bytes: UnsafeRawBufferPointer

    /// RFC 7983 section 7 gives 192 and above to nobody.
    private static let mark: UInt8 = 0xD0
    static let headerBytes = 6

    /// - Returns: nil for what is no piece.
    init?(_ datagram: UnsafeRawBufferPointer) {
        guard datagram.count > Self.headerBytes, datagram[0] == Self.mark else { return nil }
        part = Int(datagram[1] >> 4)
        parts = Int(datagram[1] & 0xF)
        guard part < parts, 2...ClientLimits.piecesPerRecord ~= parts else { return nil }
        number = datagram[2..<6].reduce(0) { $0 << 8 | UInt32($1) }
        bytes = UnsafeRawBufferPointer(rebasing: datagram[Self.headerBytes...])
    }

    /// Gives `body` the datagrams, of equal lengths, one after the other.
    /// - Returns: whether the record can be cut so; otherwise nothing was given.
    static func cut(
        _ record: UnsafeRawBufferPointer,
        number: UInt32,
        limitBytes: Int,
        _ body: (UnsafeRawBufferPointer) -> Void
    ) -> Bool {
        let room = limitBytes - headerBytes
        guard room > 0, !record.isEmpty else { return false }
        let parts = max(2, (record.count + room - 1) / room)
        guard parts <= ClientLimits.piecesPerRecord else { return false }
        let length = (record.count + parts - 1) / parts
        withUnsafeTemporaryAllocation(byteCount: headerBytes + length, alignment: 1) { space in
            space[0] = mark
            for (index, shift) in [UInt32(24), 16, 8, 0].enumerated() {
                space[2 + index] = UInt8(truncatingIfNeeded: number >> shift)
            }
            for part in 0..<parts {
                space[1] = UInt8(part << 4 | parts)
                let bytes = UnsafeRawBufferPointer(
                    rebasing: record[(part * length)..<min((part + 1) * length, record.count)]
                )
                UnsafeMutableRawBufferPointer(rebasing: space[headerBytes...]).copyMemory(from: bytes)
                body(UnsafeRawBufferPointer(rebasing: space[..<(headerBytes + bytes.count)]))
            }
        }
        return true
    }
}

/// Records of which some pieces have come. The oldest make room: of a record that has lost a piece the others wait for
/// nothing.
struct PartialRecords<Route: Hashable> {
    private struct Partial {
        let route: Route
        let number: UInt32
        var parts: [[UInt8]?]
    }

    private var partials: [Partial] = []

    /// - Returns: the record, if that was the last piece of it.
    mutating func add(_ piece: RecordPiece, from route: Route) -> [UInt8]? {
        guard piece.bytes.count <= ICELimits.longestDatagramBytes else { return nil }
        var index = partials.firstIndex { $0.number == piece.number && $0.route == route }
        if let known = index, partials[known].parts.count != piece.parts {
            // The numbers have come round, or somebody else has made it up.
            partials.remove(at: known)
            index = nil
        }
        guard let index else {
            var parts = [[UInt8]?](repeating: nil, count: piece.parts)
            parts[piece.part] = [UInt8](piece.bytes)
            if partials.count >= ClientLimits.partialRecords { partials.removeFirst() }
            partials.append(Partial(route: route, number: piece.number, parts: parts))
            return nil
        }
        partials[index].parts[piece.part] = [UInt8](piece.bytes)
        let parts = partials[index].parts.compactMap(\.self)
        guard parts.count == piece.parts else { return nil }
        partials.remove(at: index)
        return Array(parts.joined())
    }
}

import TestSupport
import Testing
import Traversal

@testable import TurnpikeClient

@Suite struct RecordPieceTests {
    private static func record(_ count: Int, seed: Int = 1) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ seed) }
    }

    private static func pieces(_ record: [UInt8], _ number: UInt32, limit: Int = 1_147) -> [[UInt8]] {
        var pieces: [[UInt8]] = []
        record.withUnsafeBytes { record in
            _ = RecordPiece.cut(record, number: number, limitBytes: limit) { pieces.append([UInt8]($0)) }
        }
        return pieces
    }

    private func add(_ piece: [UInt8], _ route: Int = 1, to partials: inout PartialRecords<Int>) -> [UInt8]? {
        piece.withUnsafeBytes { bytes in RecordPiece(bytes).flatMap { partials.add($0, from: route) } }
    }

    @Test(arguments: [1_148, 1_200, 1_472, 2_282, 2_283, 4_000]) func piecesFitAndMakeTheRecord(count: Int) {
        let record = Self.record(count)
        for order in [false, true] {
            let pieces = Self.pieces(record, 7)
            #expect(pieces.count == (count + 1_140) / 1_141 && pieces.allSatisfy { $0.count <= 1_147 })
            // RFC 7983 section 7: of no other protocol.
            #expect(pieces.allSatisfy { $0.withUnsafeBytes(Demultiplexer.kind) == .unknown })
            var partials = PartialRecords<Int>()
            let made = (order ? pieces : pieces.reversed()).compactMap { add($0, to: &partials) }
            #expect(made == [record])
        }
    }

    @Test func whatWouldBeTooManyPiecesIsNotCut() {
        #expect(Self.pieces(Self.record(5_000), 1).isEmpty)
        #expect(Self.pieces([], 1).isEmpty)
        #expect(Self.pieces(Self.record(2_000), 1, limit: 6).isEmpty)
    }

    @Test func recordsThatComeAtOnceStayApart() {
        var partials = PartialRecords<Int>()
        let records = (0..<10).map { Self.record(1_300, seed: $0) }
        let pieces = records.enumerated().map { Self.pieces($1, UInt32($0)) }
        for piece in pieces { #expect(add(piece[1], to: &partials) == nil) }
        // The same numbers by another way.
        for piece in pieces { #expect(add(piece[0], 2, to: &partials) == nil) }
        #expect(pieces.compactMap { add($0[0], to: &partials) } == records)
    }

    @Test func aLostPieceCostsItsRecordAlone() {
        var partials = PartialRecords<Int>()
        for number in 0..<1_000 as Range<UInt32> { _ = add(Self.pieces(Self.record(1_300), number)[0], to: &partials) }
        let whole = Self.pieces(Self.record(1_400), 5_000)
        #expect(whole.compactMap { add($0, to: &partials) } == [Self.record(1_400)])
        // Of the first the memory has been given up.
        #expect(add(Self.pieces(Self.record(1_300), 0)[1], to: &partials) == nil)
        #expect(add(Self.pieces(Self.record(1_300), 999)[1], to: &partials) == Self.record(1_300))
    }

    @Test func mutatedPiecesDoNoHarm() {
        var random = SeededGenerator(for: "record pieces")
        var partials = PartialRecords<Int>()
        for round in 0..<fuzzRounds(2_000) {
            let pieces = Self.pieces(Self.record(.random(in: 1_148...3_000, using: &random)), UInt32(round & 7))
            var piece = pieces.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 0...3, using: &random) { mutate(&piece, &random) }
            if let record = add(piece, .random(in: 0...3, using: &random), to: &partials) {
                #expect(record.count <= 4 * ICELimits.longestDatagramBytes)
            }
        }
    }
}

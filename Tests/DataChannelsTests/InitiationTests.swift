import TestSupport
import Testing

@testable import DataChannels

/// INITs that a peer's stack never writes, and that usrsctp never comes back from.
@Suite(.serialized) struct InitiationTests {
    private static let unknown: [UInt8] = [0xC0, 0x99]

    /// Parameters as they stand in the chunk, and how long the chunk says that it is behind its fixed part.
    private static let malformed: [(name: String, parameters: [UInt8], length: Int)] = [
        ("length zero", unknown + [0, 0], 4),
        ("length zero behind another", [0x80, 0, 0, 4] + unknown + [0, 0], 8),
        ("length zero behind one that ends the list", [0, 0x99, 0, 4] + unknown + [0, 0], 8),
        ("a length below the header's", unknown + [0, 3], 4),
        ("a length beyond the chunk", unknown + [0, 9, 1, 2, 3, 4], 8),
        ("a header that reaches into the padding", [0x80, 0, 0, 4, 0x80, 0, 0, 0], 6),
    ]

    private static let wellFormed: [(name: String, parameters: [UInt8], length: Int)] = [
        ("no parameter", [], 0),
        ("one", unknown + [0, 4], 4),
        ("a last one that is padded", unknown + [0, 5, 1, 0, 0, 0], 5),
        ("two", unknown + [0, 6, 1, 2, 0, 0] + [0x80, 0, 0, 4], 12),
    ]

    @Test(arguments: malformed.indices) func aMalformedParameterIsFound(index: Int) {
        let sample = Self.malformed[index]
        for kind in [UInt8(1), 2] {
            let chunk = Self.initiation(kind, sample.parameters, sample.length)
            #expect(!Self.passes(chunk), "\(sample.name)")
            // COOKIE ACK before it.
            #expect(!Self.passes([11, 0, 0, 4] + chunk), "\(sample.name) behind another chunk")
            // What is data from here on is no chunk.
            #expect(Self.passes([0, 3, 0, 20] + [UInt8](repeating: 7, count: 16) + chunk), "\(sample.name) in data")
        }
        #expect(Self.passes(Self.initiation(3, sample.parameters, sample.length)), "\(sample.name) in a SACK")
    }

    @Test(arguments: wellFormed.indices) func aWellFormedOneIsLeftAlone(index: Int) {
        let sample = Self.wellFormed[index]
        #expect(Self.passes(Self.initiation(1, sample.parameters, sample.length)), "\(sample.name)")
    }

    @Test func aChunkThatIsCutShortIsNoConcernOfIt() {
        let chunk = Self.initiation(1, Self.unknown + [0, 0], 4)
        for count in 0..<chunk.count { _ = Self.passes(Array(chunk[..<count])) }
        #expect(!Self.passes([1, 0, 0, 19] + [UInt8](repeating: 1, count: 16)))
        #expect(Self.passes([]) && Self.passes([1, 0, 0, 0]))
    }

    /// To an association that stands, where usrsctp would look for new addresses in it and stay. The limit is for that
    /// alone: the wait for the other tests that set SCTP's clock is in it.
    @Test(.timeLimit(.minutes(20))) func anInitiationWithAParameterOfLengthZeroComesBackAtOnce() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            let chunk = Self.initiation(1, Self.unknown + [0, 0], 4)
            sealed(Self.header + chunk).withUnsafeBytes { pair.server.receive($0) }
            #expect(pair.server.malformedPackets == 1 && pair.client.malformedPackets == 0)
            let channel = try pair.client.openChannel(.init(label: "x"))
            #expect(pair.client.send([1], on: channel.id) == .sent)
            #expect(pair.run(for: 1_000) { $0.messages(channel.id, .server) == [[1]] })
            #expect(pair.server.malformedPackets == 1)
        }
    }

    /// An INIT that comes beside an offer is read by the same stack.
    @Test(.timeLimit(.minutes(20))) func aSignaledInitiationWithOneIsNoInitiation() async throws {
        try await SCTPTime.virtual {
            SCTPStack.shared.forgetTime()
            let server = try DataChannelAssociation(.server, wake: {})
            let chunk = Self.initiation(1, Self.unknown + [0, 0], 4)
            #expect(server.answer(initiation: sealed(Self.header + chunk)) == nil)
            #expect(server.malformedPackets == 1)
            server.abort()
        }
    }

    /// The ports that both ends have, and the tag of a packet with INIT.
    private static let header: [UInt8] = [0x13, 0x88, 0x13, 0x88, 0, 0, 0, 0, 0, 0, 0, 0]

    private static func passes(_ chunks: [UInt8]) -> Bool { (header + chunks).withUnsafeBytes(InitiationCheck.passes) }

    /// - Parameter length: of the parameters, as the chunk has it.
    private static func initiation(_ kind: UInt8, _ parameters: [UInt8], _ length: Int) -> [UInt8] {
        // A tag, a window of 128 KiB, 16 streams each way, and a first TSN.
        [kind, 0, 0, UInt8(20 + length), 1, 2, 3, 4, 0, 2, 0, 0, 0, 16, 0, 16, 5, 6, 7, 8] + parameters
    }
}

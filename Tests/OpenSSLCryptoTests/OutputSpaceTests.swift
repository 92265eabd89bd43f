import COpenSSL
import Testing

@testable import OpenSSLCrypto

struct OutputSpaceTests {
    let context: TLSContext

    init() throws { context = try CertificateFiles().makeContext() }

    @Test func carriesWhatOneSessionSealsBeforeAnother() throws {
        let space = OutputSpace(byteCount: 8_192)
        let (client, server) = try connect(space)
        let (otherClient, other) = try connect(space)
        for round in 0..<3 {
            let payload = [UInt8](repeating: UInt8(round), count: 1_200)
            #expect(server.send(payload))
            #expect(space.storage.pointee.used > payload.count)
            client.receive(server.takeAll())
            #expect(client.readAll() == payload)
            #expect(space.storage.pointee.owner == nil)
            #expect(other.send(payload))
            otherClient.receive(other.takeAll())
            #expect(otherClient.readAll() == payload)
        }
    }

    @Test func givesASessionMemoryOfItsOwnWhileAnotherHasTheSpace() throws {
        let space = OutputSpace(byteCount: 8_192)
        let (client, server) = try connect(space)
        let (otherClient, other) = try connect(space)
        #expect(server.send([1]))
        #expect(other.send([2]))
        #expect(server.send([3]))
        #expect(other.send([4]))
        otherClient.receive(other.takeAll())
        client.receive(server.takeAll())
        #expect(client.readAll() == [1, 3])
        #expect(otherClient.readAll() == [2, 4])
    }

    @Test func movesOutInOrderWhatDoesNotFit() throws {
        let (client, server) = try connect(OutputSpace(byteCount: 4_096))
        var sent: [UInt8] = []
        for number in 0..<8 {
            let payload = [UInt8](repeating: UInt8(number), count: 1_000)
            sent += payload
            #expect(server.send(payload))
        }
        #expect(server.pendingOutput > sent.count)
        client.receive(server.takeAll())
        #expect(client.readAll() == sent)
        #expect(server.pendingOutput == 0)
    }

    @Test func keepsWhatTheCallerDoesNotTake() throws {
        let space = OutputSpace(byteCount: 8_192)
        let (client, server) = try connect(space)
        #expect(server.send([5, 6, 7]))
        var first: [UInt8] = []
        server.takeOutput { pending in
            first = Array(pending.prefix(3))
            return 3
        }
        #expect(space.storage.pointee.owner == nil, "what is left has moved out")
        client.receive(first + server.takeAll())
        #expect(client.readAll() == [5, 6, 7])
    }

    @Test func isFreeAgainWhenItsOwnerHasGone() throws {
        let space = OutputSpace(byteCount: 8_192)
        do {
            let (_, server) = try connect(space)
            #expect(server.send([1]))
            #expect(space.storage.pointee.owner != nil)
        }
        #expect(space.storage.pointee.owner == nil)
    }

    private func connect(_ space: OutputSpace) throws -> (Client, TLSSession) {
        let server = try TLSSession(context, space: space)
        let client = try Client()
        exchange(client, server)
        try #require(server.state == .established)
        _ = server.takeAll()
        return (client, server)
    }
}

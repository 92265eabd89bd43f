import COpenSSL
import Foundation
import TestSupport
import Testing

@testable import OpenSSLCrypto

/// Peers whose handshake begins before they know one another, and data behind the client's Finished.
struct EarlyDataTests {
    let mine: PeerIdentity
    let theirs: PeerIdentity

    init() throws {
        mine = try PeerIdentity()
        theirs = try PeerIdentity()
    }

    private func pair(timeoutMicroseconds: UInt32 = 1_000_000) throws -> (client: DTLSSession, server: DTLSSession) {
        let client = try DTLSSession(
            offering: mine,
            packetLimitBytes: 1_080,
            firstTimeoutMicroseconds: timeoutMicroseconds
        )
        client.startsEarly = true
        let server = try DTLSSession(
            peer: .server,
            identity: theirs,
            expecting: [mine.fingerprint],
            packetLimitBytes: 1_080,
            firstTimeoutMicroseconds: timeoutMicroseconds
        )
        return (client, server)
    }

    /// Up to the client's last flight, which is given.
    private func lastFlight(_ client: DTLSSession, _ server: DTLSSession) -> [[UInt8]] {
        client.advance()
        for datagram in client.takeAll() { server.feed(datagram) }
        client.expect([theirs.fingerprint])
        for datagram in server.takeAll() { client.feed(datagram) }
        return client.takeAll()
    }

    private func seal(_ text: [UInt8], _ session: DTLSSession) -> [UInt8]? {
        var target = [UInt8](repeating: 0, count: text.count + DTLSSession.sealedBytes)
        let count = text.withUnsafeBytes { text in target.withUnsafeMutableBytes { session.seal(text, into: $0) } }
        return count > 0 ? Array(target[..<count]) : nil
    }

    private let limit = Int(EarlyKeys.numbers.upperBound - EarlyKeys.numbers.lowerBound)

    @Test(arguments: [false, true]) func dataBehindTheFinishedAreReadBehindTheHandshake(comesFirst: Bool) throws {
        let (client, server) = try pair()
        #expect(!client.maySeal)
        let flight = lastFlight(client, server)
        #expect(client.state == .handshaking && client.maySeal)
        var records: [[UInt8]] = []
        for number in 0..<UInt8(limit) { records.append(try #require(seal([number, 7], client))) }
        #expect(seal([99], client) == nil, "there is no number left")
        var received: [[UInt8]] = []
        let datagrams = comesFirst ? records + flight : flight + records
        for datagram in datagrams { received += server.take(datagram) }
        while let data = server.readOne() { received.append(data) }
        #expect(server.state == .established)
        #expect(received == (0..<UInt8(limit)).map { [$0, 7] })
        // Nothing of them comes twice.
        for datagram in records { #expect(server.take(datagram).isEmpty) }
        for datagram in server.takeAll() { client.feed(datagram) }
        #expect(client.state == .established)
        // What follows is let in as well, in both directions.
        var nonces = Set(records.map { Array($0[13..<21]) })
        for number in UInt8(0)..<20 {
            let record = try #require(seal([number], client))
            #expect(nonces.insert(Array(record[13..<21])).inserted, "a nonce came twice")
            #expect(server.take(record) == [[number]])
            let answer = try #require(seal([number, 2], server))
            #expect(client.take(answer) == [[number, 2]])
        }
    }

    @Test func aFinishedThatIsSentAgainIsLetInBehindEarlyData() throws {
        let (client, server) = try pair(timeoutMicroseconds: 2_000)
        _ = lastFlight(client, server)
        let record = try #require(seal([1, 2, 3], client))
        #expect(server.take(record).isEmpty)
        var received: [[UInt8]] = []
        var wire = Wire()
        for _ in 0..<200 where server.state == .handshaking {
            usleep(1_000)
            client.handleTimeout()
            received += wire.carry(client, server).second
        }
        while let data = server.readOne() { received.append(data) }
        #expect(server.state == .established && received == [[1, 2, 3]])
        wire.carry(client, server)
        #expect(client.state == .established)
        let later = try #require(seal([4], client))
        #expect(server.take(later) == [[4]])
    }

    @Test func nobodysCertificateIsAcceptedBeforeItIsSaidWhose() throws {
        let (client, server) = try pair()
        client.advance()
        for datagram in client.takeAll() { server.feed(datagram) }
        for datagram in server.takeAll() { client.feed(datagram) }
        #expect(client.state == .failed && !client.maySeal)
        #expect(client.verificationFailure == .unacceptable("nobody has said yet whose it has to be"))
    }

    @Test func aWrongCertificateEndsItBeforeAnythingIsSealed() throws {
        let (client, server) = try pair()
        client.advance()
        for datagram in client.takeAll() { server.feed(datagram) }
        client.expect([mine.fingerprint])
        // Only the first word counts.
        client.expect([theirs.fingerprint])
        for datagram in server.takeAll() { client.feed(datagram) }
        #expect(client.state == .failed && !client.maySeal && seal([1], client) == nil)
        #expect(client.verificationFailure == .unpinned(theirs.fingerprint))
    }

    @Test func aSessionThatWasNotAskedToSealsNothingEarly() throws {
        let (client, server) = try pair()
        client.startsEarly = false
        _ = lastFlight(client, server)
        #expect(!client.maySeal && seal([1], client) == nil)
    }

    /// Changed on their way, early records end no session and bring nothing that was not sent. One that is changed into
    /// a record of epoch 0, or has another behind it, may: nothing protects those (RFC 6347 section 4.1.2.7).
    @Test func changedEarlyRecordsBringNothing() throws {
        var random = SeededGenerator(for: "early data")
        for _ in 0..<fuzzRounds(200) {
            let (client, server) = try pair()
            let flight = lastFlight(client, server)
            var areProtected = true
            for number in UInt8(0)..<4 {
                var record = try #require(seal([0xA5, number], client))
                let header = record.prefix(13)
                mutate(&record, &random)
                areProtected =
                    areProtected && record.dropFirst(3).starts(with: [0, 1])
                    && record.prefix(13).suffix(2) == header.suffix(2)
                for data in server.take(record) { #expect(data.count == 2 && data[0] == 0xA5) }
            }
            for datagram in flight { server.feed(datagram) }
            while let data = server.readOne() { #expect(data.count == 2 && data[0] == 0xA5) }
            #expect(server.state == .established || !areProtected)
        }
    }
}

import OpenSSLCrypto
import STUN
import TURN
import Testing

@testable import Relay

@Suite struct SessionTableTests {
    @Test func findsAClientByAllOfItsTuple() throws {
        let table = try makeTable()
        let number = table.insert(record(1))
        #expect(table.find(tuple(1)) == number)
        #expect(table.find(tuple(1, port: 5)) == noIndex)
        #expect(table.find(tuple(2)) == noIndex)
        var plain = tuple(1)
        plain.transport = .udp
        #expect(table.find(plain) == noIndex)
        var elsewhere = tuple(1)
        elsewhere.server.port = 3478
        #expect(table.find(elsewhere) == noIndex)
    }

    @Test func staysRightThroughComingAndGoing() throws {
        let table = try makeTable(capacity: 4_096)
        var model: [UInt32: UInt32] = [:]
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            let key = UInt32.random(in: 0..<2_000, using: &generator)
            if let number = model[key] {
                #expect(table.find(tuple(key)) == number)
                if Bool.random(using: &generator) { table.endHandshake(number) }
                table.remove(number)
                model[key] = nil
                #expect(!table.isUsed(number))
            } else {
                model[key] = table.insert(record(key))
                table.notePending(table.find(tuple(key)))
            }
            #expect(table.count == model.count)
        }
        for (key, number) in model { #expect(table.find(tuple(key)) == number) }
        #expect(Set(table.handshakes).isSubset(of: Set(model.values)))
        while let number = table.takePending() { #expect(table.isUsed(number)) }
    }

    @Test func givesAllSessionsUpWithItself() throws {
        weak var session: Session?
        do {
            let table = try makeTable()
            let made = Session()
            session = made
            _ = table.insert(record(1, session: made))
        }
        #expect(session == nil)
    }

    @Test func admitsNoMoreThanItHolds() throws {
        let table = try makeTable(capacity: 2)
        _ = table.insert(record(1))
        #expect(table.admits(tuple(2).client.address))
        let second = table.insert(record(2))
        #expect(!table.admits(tuple(3).client.address))
        table.remove(second)
        #expect(table.admits(tuple(3).client.address))
    }

    @Test func admitsNoMoreOfOneSource() throws {
        let table = try makeTable()
        for port in 0..<DTLSLimits.sessionsPerSource {
            #expect(table.admits(tuple(1).client.address))
            _ = table.insert(record(1, port: UInt16(port)))
        }
        #expect(!table.admits(tuple(1).client.address))
        #expect(table.admits(tuple(2).client.address))
    }

    @Test func aSourceOfIPv6IsItsNetwork() throws {
        let table = try makeTable()
        for host in 0..<UInt64(DTLSLimits.handshakesPerSource) {
            _ = table.insert(record(FiveTuple(client: six(network: 1, host: host), server: server, transport: .dtls)))
        }
        #expect(table.handshakeInTheWay(of: six(network: 1, host: 9_999).address) == 0)
        #expect(table.handshakeInTheWay(of: six(network: 2, host: 0).address) == nil)
    }

    @Test func theOldestHandshakeOfASourceMakesRoomFirst() throws {
        let table = try makeTable()
        _ = table.insert(record(7))
        var own: [UInt32] = []
        for port in 0..<DTLSLimits.handshakesPerSource {
            #expect(table.handshakeInTheWay(of: tuple(1).client.address) == nil)
            own.append(table.insert(record(1, port: UInt16(port))))
        }
        #expect(table.handshakeInTheWay(of: tuple(1).client.address) == own[0])
        table.endHandshake(own[0])
        #expect(table.handshakeInTheWay(of: tuple(1).client.address) == nil)
    }

    @Test func theOldestHandshakeOfAllMakesRoom() throws {
        let table = try makeTable()
        for key in 0..<UInt32(DTLSLimits.handshakes) { _ = table.insert(record(key)) }
        #expect(table.handshakeInTheWay(of: tuple(9_999).client.address) == table.find(tuple(0)))
        table.beginHandshake(table.find(tuple(0)))
        #expect(table.handshakeInTheWay(of: tuple(9_999).client.address) == table.find(tuple(1)))
    }

    @Test func handshakesHaveTheirTurnInTheOrderSomethingCame() throws {
        let table = try makeTable()
        let numbers = (0..<4).map { table.insert(record($0)) }
        for number in [numbers[2], numbers[0], numbers[2], numbers[3]] { table.notePending(number) }
        table.remove(numbers[0])
        #expect(table.takePending() == numbers[2])
        table.notePending(numbers[2])
        #expect(table.takePending() == numbers[3])
        #expect(table.takePending() == numbers[2])
        #expect(table.takePending() == nil)
        table.endHandshake(numbers[1])
        table.notePending(numbers[1])
        #expect(!table.hasPending)
    }

    @Test func fewSessionsKeepTheirBuffers() throws {
        let table = try makeTable()
        let numbers = (0...UInt32(DTLSLimits.warmSessions)).map { table.insert(record($0)) }
        for number in numbers.dropLast() { #expect(table.noteTraffic(number) == nil) }
        #expect(table.noteTraffic(numbers[3]) == nil, "it has them")
        #expect(table.noteTraffic(numbers[numbers.count - 1]) == numbers[0])
        #expect(table.noteTraffic(numbers[0]) == numbers[1])
        table.remove(numbers[2])
        let newcomer = table.insert(record(99_999))
        #expect(table.noteTraffic(newcomer) == nil, "the place of one that is gone")
    }

    // MARK: Making

    private final class Session {}

    /// The macros of the tests take no value that cannot be copied.
    private final class Table {
        private var table: SessionTable<Session>

        init(_ table: consuming SessionTable<Session>) { self.table = table }

        var count: Int { table.count }
        var handshakes: [UInt32] { table.handshakes }
        var hasPending: Bool { table.hasPending }

        func find(_ tuple: FiveTuple) -> UInt32 { table.find(tuple) }
        func isUsed(_ number: UInt32) -> Bool { table.isUsed(number) }
        func admits(_ source: IPAddress) -> Bool { table.admits(source) }
        func handshakeInTheWay(of source: IPAddress) -> UInt32? { table.handshakeInTheWay(of: source) }
        func insert(_ record: SessionRecord<Session>) -> UInt32 { table.insert(record) }
        func remove(_ number: UInt32) { table.remove(number) }
        func beginHandshake(_ number: UInt32) { table.beginHandshake(number) }
        func endHandshake(_ number: UInt32) { table.endHandshake(number) }
        func notePending(_ number: UInt32) { table.notePending(number) }
        func takePending() -> UInt32? { table.takePending() }
        func noteTraffic(_ number: UInt32) -> UInt32? { table.noteTraffic(number) }
    }

    private let server = Endpoint(address: IPAddress(v4: 0x7F00_0001), port: 5349)

    private func makeTable(capacity: Int = DTLSLimits.sessions) throws -> Table {
        Table(SessionTable(hash: TableHash(try OpenSSLCryptography()), capacity: capacity))
    }

    private func tuple(_ key: UInt32, port: UInt16 = 40_000) -> FiveTuple {
        let client = Endpoint(address: IPAddress(v4: 0x0A00_0000 + key), port: port)
        return FiveTuple(client: client, server: server, transport: .dtls)
    }

    private func six(network: UInt64, host: UInt64) -> Endpoint {
        Endpoint(address: IPAddress(high: 0x2001_0DB8_0000_0000 + network, low: host, isIPv4: false), port: 40_000)
    }

    private func record(
        _ key: UInt32,
        port: UInt16 = 40_000,
        session: Session = Session()
    ) -> SessionRecord<Session> { record(tuple(key, port: port), session: session) }

    private func record(_ tuple: FiveTuple, session: Session = Session()) -> SessionRecord<Session> {
        SessionRecord(tuple: tuple, listener: 0, session: session, mark: 0, handshakeDeadlineNanoseconds: 0)
    }
}

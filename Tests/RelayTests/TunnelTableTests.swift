import LinuxIO
import TURN
import Testing

@testable import Relay

@Suite struct TunnelTableTests {
    private func tunnel(_ wanted: PeerConnectionKey) throws -> Tunnel {
        let listener = try TCPSocket.listen(
            on: SocketAddressStorage(high: 0, low: 0xFFFF_7F00_0001, isIPv4: true, port: 0),
            backlog: 1
        )
        return Tunnel(wanted, .waiting, peer: listener)
    }

    @Test func aTunnelIsHeldUnderItsNumberAndItsIDTogether() throws {
        var table = TunnelTable(ConnectionBudget(limit: 1, queueLimitBytes: 0))
        let old = PeerConnectionKey(number: 3, id: 77)
        let new = PeerConnectionKey(number: 3, id: 78)
        table.insert(try tunnel(old))
        var holds = (table.holds(old), table.holds(new), table.holds(PeerConnectionKey(number: 4, id: 77)))
        #expect(holds == (true, false, false))
        table.remove(new)
        holds.0 = table.holds(old)
        #expect(holds.0)
        table.insert(try tunnel(new))
        holds = (table.holds(old), table.holds(new), false)
        #expect(holds == (false, true, false))
        let beyond = table.holds(PeerConnectionKey(number: .max, id: 78))
        #expect(!beyond)
    }

    @Test func whatATunnelTakesIsCountedUntilItGoes() throws {
        let budget = ConnectionBudget(limit: 3, queueLimitBytes: 0)
        var table = TunnelTable(budget)
        let first = PeerConnectionKey(number: 0, id: 1)
        let second = PeerConnectionKey(number: 1, id: 2)
        table.insert(try tunnel(first))
        table.insert(try tunnel(second))
        #expect(budget.used == 2 && budget.hasRoom)
        table.join(first, TunnelSide(-1), nil)
        #expect(budget.used == 3 && !budget.hasRoom)
        table.insert(try tunnel(PeerConnectionKey(number: 0, id: 3)))
        #expect(budget.used == 2)
        table.remove(first)
        table.remove(second)
        table.remove(PeerConnectionKey(number: 0, id: 3))
        #expect(budget.used == 0)
    }

    @Test func removingClosesTheSocket() throws {
        var table = TunnelTable(ConnectionBudget(limit: 1, queueLimitBytes: 0))
        let wanted = PeerConnectionKey(number: 0, id: 1)
        table.insert(try tunnel(wanted))
        let address = try TCPSocket.localAddress(table[wanted].pointee.peer.descriptor)
        let storage = SocketAddressStorage(high: address.high, low: address.low, isIPv4: true, port: address.port)
        #expect(throws: SystemCallError.self) { _ = try TCPSocket.listen(on: storage, backlog: 1) }
        table.remove(wanted)
        _ = try TCPSocket.listen(on: storage, backlog: 1)
    }

    @Test(arguments: [UInt32(1), 0x8000_0000, .max])
    func eventsOfTunnelsAreToldFromAllOthers(id: UInt32) {
        let wanted = PeerConnectionKey(number: UInt32(Limits.peerConnectionsPerWorker - 1), id: id)
        for isPeer in [true, false] {
            let source = EventSource.tunnel(wanted, isPeer: isPeer)
            #expect(source.isTunnel && source.isTunnelPeer == isPeer)
            #expect(source.tunnel.number == wanted.number && source.tunnel.id == id)
            #expect(!source.isRelay && !source.isListener && !source.isConnection && !source.isStreamListener)
            #expect(!source.isStreamRelay && source != .mailbox)
        }
        let relay = EventSource.streamRelay(id)
        #expect(relay.isStreamRelay && relay.number == id)
        #expect(!relay.isTunnel && !relay.isRelay && !relay.isListener && !relay.isConnection && relay != .mailbox)
        #expect(!EventSource.mailbox.isTunnel && !EventSource.mailbox.isStreamRelay)
        #expect(!EventSource.relay(id, isSecondary: true).isStreamRelay)
        #expect(!EventSource.streamListener(7).isTunnel && !EventSource.connection(7).isTunnel)
    }
}

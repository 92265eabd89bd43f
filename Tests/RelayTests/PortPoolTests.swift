import STUN
import TURN
import Testing

@testable import Relay

/// Where relay ports and reservation tokens come from: nobody can tell which one is next.
@Suite struct PortPoolTests {
    private static let address = RelayAddress(local: IPAddress(v4: 0xCB00_7105), advertised: IPAddress(v4: 0xCB00_7105))
    private let pool = PortPool([Self.address], 49_152...65_535)

    private func take(_ parity: RelayRequest.Parity = .any) -> UInt16? {
        let taken = pool.take(.ipv4, near: Self.address.local, parity: parity, refused: [])
        if case .port(let port, _, _) = taken { return port }
        return nil
    }

    private func release(_ port: UInt16) { pool.release(Endpoint(address: Self.address.local, port: port)) }

    private func leg(_ port: UInt16) -> RelayLeg {
        let endpoint = Endpoint(address: Self.address.local, port: port)
        return RelayLeg(descriptor: 99, local: endpoint, advertised: endpoint)
    }

    /// How far counts are from equal ones, in standard deviations of what chance would do.
    private func deviation(_ counts: [Int]) -> Double {
        let expected = Double(counts.reduce(0, +)) / Double(counts.count)
        let chiSquared = counts.reduce(0.0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
        let degrees = Double(counts.count - 1)
        return (chiSquared - degrees) / (2 * degrees).squareRoot()
    }

    @Test func aRelayThatHasJustClosedIsKnownForASecond() throws {
        let second: UInt64 = 1_000_000_000
        let port = try #require(take())
        let relay = Endpoint(address: Self.address.local, port: port)
        #expect(!pool.hasJustClosed(relay, at: 5 * second))
        pool.release(relay, at: 5 * second)
        #expect(!pool.isLive(relay) && pool.hasJustClosed(relay, at: 5 * second))
        // Another worker's clock may be a moment behind.
        #expect(pool.hasJustClosed(relay, at: 5 * second - 1) && pool.hasJustClosed(relay, at: 6 * second - 1))
        #expect(!pool.hasJustClosed(relay, at: 6 * second))
        #expect(!pool.hasJustClosed(Endpoint(address: relay.address, port: port ^ 1), at: 5 * second))
        #expect(!pool.hasJustClosed(Endpoint(address: IPAddress(v4: 0xCB00_7106), port: port), at: 5 * second))
        // No more than so many are kept. The first port is taken, so none of them is it again.
        #expect(pool.take(exactly: port, on: 0))
        for _ in 0..<256 { pool.release(Endpoint(address: relay.address, port: try #require(take())), at: 5 * second) }
        #expect(!pool.hasJustClosed(relay, at: 5 * second))
    }

    @Test func sp26_al09_aHundredThousandPortsAreUniformAndInNoOrder() throws {
        var counts = [Int](repeating: 0, count: 16_384)
        var steps = [Int](repeating: 0, count: 64)
        var previous: UInt16 = 0
        for _ in 0..<100_000 {
            let port = try #require(take())
            #expect(port >= 49_152)
            counts[Int(port) - 49_152] += 1
            // The distance from the one before, in 64 classes around the range.
            steps[Int(port &- previous) % 16_384 / 256] += 1
            previous = port
            release(port)
        }
        #expect(abs(deviation(counts)) < 6)
        #expect(abs(deviation(steps)) < 6)
    }

    @Test func al09_portsThatAreHeldAreAllDifferentAndTheLastIsFound() {
        let ports = (0..<16_384).compactMap { _ in take() }
        #expect(Set(ports).count == 16_384)
        #expect(take() == nil)
        release(50_123)
        #expect(take() == 50_123)
        // In the order they were given there is no run: neighbours follow each other about twice in 16,384.
        let neighbours = zip(ports, ports.dropFirst()).count { $1 == $0 &+ 1 }
        #expect(neighbours < 20)
    }

    @Test func sp26_aHundredThousandTokensDoNotRepeatAndAreUniform() {
        var tokens: Set<UInt64> = []
        var counts = [Int](repeating: 0, count: 256)
        for _ in 0..<100_000 {
            let token = pool.reserve(leg(50_001), untilNanoseconds: .max)
            tokens.insert(token)
            for shift in stride(from: UInt64(0), to: 64, by: 8) { counts[Int(token >> shift & 0xFF)] += 1 }
        }
        #expect(tokens.count == 100_000 && !tokens.contains(0))
        #expect(abs(deviation(counts)) < 6)
    }

    @Test func al08_anEvenPortsNeighbourIsHeldThirtySecondsAndIsFreeAgain() throws {
        let second: UInt64 = 1_000_000_000
        let port = try #require(take(.evenReservingNext))
        #expect(port.isMultiple(of: 2))
        #expect(pool.take(exactly: port + 1, on: 0))
        let until = (100 + Limits.reservationLifetimeSeconds) * second
        #expect(Limits.reservationLifetimeSeconds >= 30)
        let token = pool.reserve(leg(port + 1), untilNanoseconds: until)
        #expect(pool.take(exactly: port + 1, on: 0) == false)
        #expect(pool.expired(at: until - 1).isEmpty)
        // Only its own token gets it, and only in time.
        #expect(pool.claim(token &+ 1, at: until - 1) == nil)
        #expect(pool.claim(token, at: until) == nil)
        let lapsed = pool.expired(at: until)
        #expect(lapsed.map(\.local.port) == [port + 1])
        for leg in lapsed { pool.release(leg.local) }
        #expect(pool.claim(token, at: 0) == nil)
        #expect(pool.take(exactly: port + 1, on: 0))
    }

    @Test func al08_aTokenIsGoodOnce() throws {
        let token = pool.reserve(leg(50_001), untilNanoseconds: 100)
        #expect(pool.claim(token, at: 99)?.local.port == 50_001)
        #expect(pool.claim(token, at: 99) == nil)
        #expect(pool.expired(at: 1_000).isEmpty)
    }

    @Test func al07_evenPortsLeakNone() throws {
        for _ in 0..<20_000 {
            let port = try #require(take(.even))
            #expect(port.isMultiple(of: 2))
            release(port)
            // A second release of the same port is no second port.
            release(port)
        }
        #expect((0..<16_385).count { _ in take() != nil } == 16_384)
        #expect(pool.occupancy().map(\.taken) == [16_384])
    }

    @Test func re16_connectionsAndQueuesOfAllWorkersHaveOneBudget() {
        let budget = ConnectionBudget(limit: 3, queueLimitBytes: 10_000)
        for _ in 0..<3 {
            #expect(budget.hasRoom)
            budget.add(1)
        }
        #expect(!budget.hasRoom && budget.used == 3)
        budget.add(-1)
        #expect(budget.hasRoom)
        budget.addQueued(10_000)
        #expect(!budget.hasQueueRoom)
        budget.addQueued(-1)
        #expect(budget.hasQueueRoom)
    }
}

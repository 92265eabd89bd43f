import STUN
import Signaling
import Testing
import Traversal

@testable import TurnpikeClient

@Suite struct PunchWireTests {
    private static let endpoint = Endpoint(address: IPAddress(v4: 0xCB00_7107), port: 40_000)

    @Test func messagesComeOutAsTheyWentIn() {
        let messages: [PunchMessage] = [
            .ready(attempt: 1, at: Self.endpoint), .opened(attempt: 2, at: Self.endpoint.address, .list([1, 65_535])),
            .opened(attempt: .max, at: Self.endpoint.address, .range(1_024...65_535)), .measure(attempt: 3),
            .base(attempt: 4, at: Self.endpoint), .cancel,
        ]
        for message in messages { #expect(PunchWire.message(.object(PunchWire.members(message))) == message) }
    }

    @Test func reportsComeOutAsTheyWentIn() {
        let allocations: [NATPortAllocation?] = [
            nil, .preserving, .random, .sequential(step: -2), .chunked(20_000...20_400),
        ]
        for allocation in allocations {
            let report = PunchReport(
                mapping: .dependent,
                filtering: .port,
                allocation: allocation,
                address: Self.endpoint.address,
                wish: .always
            )
            #expect(PunchWire.report(.object(PunchWire.members(report))) == report)
        }
    }

    /// Each member of each message in turn is missing, or is what it should not be.
    @Test func whatIsMalformedIsPassedOver() {
        let good = PunchWire.members(.opened(attempt: 2, at: Self.endpoint.address, .range(1_024...65_535)))
        let bad: [JSONValue] = [
            .null, .bool(true), .number(-1), .number(0.5), .number(65_536), .number(1e300), .number(.nan), .string("x"),
            .array([]), .object([:]),
        ]
        for name in good.keys {
            for value in bad where !(name == "attempt" && value == .number(65_536)) {
                var members = good
                members[name] = value
                #expect(PunchWire.message(.object(members)) == nil, "\(name) \(value)")
                _ = PunchWire.report(.object(members))
            }
        }
        let swapped = good.merging(["low": .number(9), "high": .number(8)]) { $1 }
        #expect(PunchWire.message(.object(swapped)) == nil)
        for payload in bad { #expect(PunchWire.message(payload) == nil && PunchWire.report(payload) == nil) }
    }
}

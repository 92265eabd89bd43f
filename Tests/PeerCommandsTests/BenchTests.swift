import Foundation
import PeerCommands
import Testing
import TurnpikeClient

@Suite struct BenchPlanTests {
    private func plan(
        _ server: String = "turn:192.0.2.1:3478",
        transport: TURNConfiguration.Transport? = nil,
        connections: Int = 10,
        rate: BenchPlan.Rate = .fixed(packetsPerSecond: 1_000),
        packetBytes: Int = 160,
        duration: String = "10s"
    ) throws(BenchPlan.Refusal) -> BenchPlan {
        try BenchPlan(
            server: server,
            transport: transport,
            connections: connections,
            rate: rate,
            packetBytes: packetBytes,
            duration: duration
        )
    }

    @Test(arguments: [
        ("turn:192.0.2.1", TURNConfiguration.Transport.udp, 3_478), ("turn:h:3479?transport=tcp", .tcp, 3_479),
        ("turns:h", .tls, 5_349), ("turns:h:443?transport=tcp", .tls, 443), ("turns:h?transport=udp", .dtls, 5_349),
        ("192.0.2.1:3478", .udp, 3_478),
    ])
    func theURLSaysHowTheServerIsReached(_ url: String, _ transport: TURNConfiguration.Transport, _ port: UInt16)
        throws
    {
        let plan = try plan(url)
        #expect(plan.transport == transport && plan.port == port)
    }

    @Test func theTransportCanBeGivenWhereTheURLDoesNotSay() throws {
        #expect(try plan(transport: .dtls).transport == .dtls)
        #expect(try plan("turns:h?transport=udp", transport: .dtls).transport == .dtls)
        #expect(throws: BenchPlan.Refusal.self) { try plan("turn:h?transport=udp", transport: .tcp) }
    }

    @Test(arguments: ["0s", "601s", "11m", "10h", "-1s", "ten", "", "1e3s", "99999999999999999999s"])
    func aLoadWithoutABoundIsRefused(_ duration: String) {
        #expect(throws: BenchPlan.Refusal.self) { try plan(duration: duration) }
    }

    @Test(arguments: [0, 1, 3, -2, 1_002, .max, .min])
    func connectionsComeInPairs(_ connections: Int) {
        #expect(throws: BenchPlan.Refusal.self) { try plan(connections: connections) }
    }

    @Test(arguments: [0, -1, 2_000_001, .max])
    func sillyRatesAreRefused(_ rate: Int) {
        #expect(throws: BenchPlan.Refusal.self) { try plan(rate: .fixed(packetsPerSecond: rate)) }
    }

    @Test(arguments: [-1, 0, 23, 1_351, 65_536])
    func sillySizesAreRefused(_ bytes: Int) {
        #expect(throws: BenchPlan.Refusal.self) { try plan(packetBytes: bytes) }
    }

    @Test(arguments: ["http://192.0.2.1", "turn:", "turn:h:0", "turn:h:99999", "turn:h?transport=sctp"])
    func whatIsNoTURNServerIsRefused(_ url: String) {
        #expect(throws: BenchPlan.Refusal.self) { try plan(url) }
    }
}

@Suite struct BenchReportTests {
    private func report(_ rate: BenchPlan.Rate, _ steps: [BenchReport.Step]) throws -> BenchReport {
        let plan = try BenchPlan(
            server: "turn:192.0.2.1:3478",
            transport: nil,
            connections: 10,
            rate: rate,
            packetBytes: 100,
            duration: "10s"
        )
        var allocation = LatencyHistogram()
        allocation.record(nanoseconds: 2_000_000)
        var report = BenchReport(
            plan: plan,
            connections: 10,
            setupNanoseconds: 20_000_000,
            allocation: allocation
        )
        report.steps = steps
        return report
    }

    private func step(rate: Double, sent: UInt64, received: UInt64, due: UInt64? = nil) -> BenchReport.Step {
        var step = BenchReport.Step(rate: rate, seconds: 10)
        (step.due, step.sent, step.received) = (due ?? sent, sent, received)
        for _ in 0..<min(received, 100) { step.latency.record(nanoseconds: 500_000) }
        return step
    }

    private let plain = Style(isColoured: false)

    @Test func theTextHasWhatWasLostAndHowLongItTook() throws {
        let step = step(rate: 1_000, sent: 10_000, received: 9_990)
        let text = try report(.fixed(packetsPerSecond: 1_000), [step]).text(plain)
        for line in [
            "server        192.0.2.1:3478 by UDP", "asked         1 000/s of 100 bytes for 10.0 s",
            "sent          10 000 packets", "lost          10, 0.10 %", "throughput    999/s, 799 kbit/s of data",
        ] {
            #expect(text.contains(line + "\n"), "\(text)")
        }
        #expect(text.contains("round trip    min 0.50 ms  p50 0.50 ms"), "\(text)")
    }

    @Test func theBestOfASearchIsTheFastestThatLostNothing() throws {
        let steps = [
            step(rate: 1_000, sent: 1_000, received: 1_000), step(rate: 2_000, sent: 2_000, received: 2_000),
            step(rate: 4_000, sent: 4_000, received: 3_998),
        ]
        let report = try report(.search, steps)
        #expect(report.leading?.rate == 2_000)
        let text = report.text(plain)
        #expect(text.contains("best          2 000/s without loss\n"), "\(text)")
        #expect(text.contains("lost 2, 0.05 %"), "\(text)")
    }

    @Test func theMachineThatMakesTheLoadIsNamedWhereItWasTheLimit() throws {
        var slow = step(rate: 9_000, sent: 50_000, received: 50_000, due: 90_000)
        slow.skipped = 40_000
        let report = try report(.fixed(packetsPerSecond: 9_000), [slow])
        #expect(!slow.isClean && slow.isGeneratorLimited)
        #expect(report.text(plain).contains("This machine was the limit, not the server"))
    }

    @Test func connectionsThatTakeNoMoreAreNotTheMachinesFault() throws {
        var full = step(rate: 9_000, sent: 50_000, received: 50_000, due: 90_000)
        full.held = 40_000
        let report = try report(.fixed(packetsPerSecond: 9_000), [full])
        #expect(!full.isClean && !full.isGeneratorLimited)
        #expect(report.text(plain).contains("The connections took less than was asked for"))
    }

    @Test func theJSONHasItsKeysWithoutASingleStep() throws {
        let full = try keys(report(.fixed(packetsPerSecond: 1), [step(rate: 1, sent: 1, received: 1)]))
        let empty = try keys(report(.search, []))
        #expect(full == empty)
        #expect(
            full == [
                "allocationMilliseconds", "bestPacketsPerSecond", "connections", "failures", "interrupted", "mode",
                "packetBytes", "result", "server", "setupSeconds", "steps", "transport",
            ]
        )
    }

    private func keys(_ report: BenchReport) throws -> [String] {
        let object = try JSONSerialization.jsonObject(with: Data(report.json().utf8))
        return try #require(object as? [String: Any]).keys.sorted()
    }
}

import Foundation
import Lab
import STUN
import Synchronization
import Testing

/// The same seed is the same run, nothing is lost without a reason, and a long run takes little time and memory.
@Suite struct DeterminismTests {
    /// A run with a bit of everything.
    private static func run(_ seed: UInt64, seconds: Double = 60) throws -> Internet {
        let quality = LinkQuality(
            delayMilliseconds: 20,
            jitterMilliseconds: 5,
            lossRatio: 0.02,
            bursts: LinkQuality.Bursts(beginRatio: 0.002, endRatio: 0.2),
            reorderRatio: 0.02,
            bitsPerSecond: 10_000_000
        )
        let internet = Internet(seed: seed) { net in
            net.host("far", quality)
            net.relay("turn", users: ["alice": "wonderland"])
            net.rendezvous("signaling", users: ["alice": "wonderland"])
            net.nat("home", .symmetric, quality) { lan in
                lan.host("a")
                lan.host("b")
            }
            net.nat("carrier", .carrierGrade, quality) { isp in isp.nat("flat", .symmetricSequential) { $0.host("c") } }
        }
        let far = internet.host("far")
        let echo = try #require(far.udp(port: 7))
        echo.onReceive = { [unowned echo] in echo.send($0.bytes, to: $0.from) }
        far.listen(7) { connection in
            connection.onReceive = { [unowned connection] in connection.send($0) }
            connection.onEnd = { [unowned connection] in connection.finish() }
        }
        let target = Endpoint(try #require(far.address()), 7)
        for name in ["a", "b", "c"] {
            let host = internet.host(name)
            let connection = try #require(host.connect(to: target))
            connection.send([UInt8](repeating: 7, count: 20_000))
            connection.finish()
            func tick(_ number: Int) {
                internet.scheduler.after(seconds: 0.1) {
                    let socket = number % 10 == 0 ? host.udp() : host.udp(port: 4_000)
                    socket?.send("tick \(number)", to: target)
                    // Some answers come to a closed socket.
                    internet.scheduler.after(seconds: number % 3 == 0 ? 0.01 : 0.09) { socket?.close() }
                    if internet.seconds < seconds - 10 { tick(number + 1) }
                }
            }
            tick(0)
        }
        let client = try HandClient(internet.host("b"), internet.relay("turn"), "alice", "wonderland", overTCP: true)
        try client.allocate()
        try client.permit(target)
        client.indicate("by the relay", to: target)
        let signaling = SignalingClient(internet.host("a"), to: internet.rendezvous("signaling").endpoint())
        signaling?.send(#"{"type":"hello","username":"alice","password":"wonderland"}"#)
        internet.scheduler.after(seconds: 12) { [unowned internet] in internet.relay("turn").restart() }
        internet.host("far").link.cut(afterSeconds: 20, forSeconds: 3)
        internet.scheduler.after(seconds: 30) { internet.router("home").reboot() }
        internet.scheduler.after(seconds: 35) { internet.router("carrier").renumber() }
        try internet.run(seconds: seconds)
        return internet
    }

    @Test func theSameSeedIsTheSameRunAndAnotherOneIsNot() throws {
        let first = try Self.run(11)
        let again = try Self.run(11)
        let other = try Self.run(12)
        #expect(first.log.digest == again.log.digest)
        #expect(first.log.text(last: 500) == again.log.text(last: 500))
        #expect(first.scheduler.eventCount == again.scheduler.eventCount)
        #expect(first.log.digest != other.log.digest)
        #expect(first.log.sent > 2_000)
    }

    @Test func everyPacketArrivesOrIsDroppedForAReason() async {
        await withSeeds(0..<5) { seed in
            let internet = try Self.run(seed, seconds: 40)
            #expect(internet.log.isConserved, "with packets on their way")
            try internet.run(seconds: 300)
            #expect(internet.log.isConserved && internet.log.inFlight == 0)
            #expect(internet.log.sent + internet.log.duplicated == internet.log.arrived + internet.log.droppedTotal)
            for reason in [Drop.loss, .linkDown, .noSocket] { #expect(internet.log.dropped(reason) > 0) }
        }
    }

    @Test func eightHoursOfKeepAlivesAreOverSoonAndLeaveNothingBehind() throws {
        let internet = Internet(seed: 1) { net in
            net.host("far")
            for number in 0..<4 {
                net.nat("home \(number)", NATBehavior.portRestricted.with { $0.udpLifetimeSeconds = 30 }) {
                    $0.host("host \(number)")
                }
            }
        }
        let far = try #require(internet.host("far").udp(port: 7))
        far.onReceive = { [unowned far] in far.send($0.bytes, to: $0.from) }
        let target = try #require(far.local())
        var answers = 0
        let sockets = try (0..<4).map { try #require(internet.host("host \($0)").udp(port: 5_000)) }
        let alarms = sockets.map { socket in
            socket.onReceive = { _ in answers += 1 }
            var alarm: Alarm?
            alarm = Alarm(internet.scheduler) { [unowned internet] in
                socket.send("keep-alive", to: target)
                alarm?.set(internet.now + nanoseconds(25))
            }
            alarm?.set(internet.now)
            return alarm
        }
        let clock = ContinuousClock()
        let taken = try clock.measure { try internet.run(seconds: 8 * 3_600) }
        for alarm in alarms { alarm?.set(nil) }
        #expect(answers == 4 * 8 * 3_600 / 25)
        #expect((0..<4).allSatisfy { internet.router("home \($0)").mappingCount == 1 })
        let rate =
            Double(internet.scheduler.eventCount)
            / (Double(taken.components.seconds) + 1e-18 * Double(taken.components.attoseconds))
        print("lab: 8 h of virtual time, \(internet.scheduler.eventCount) events, \(taken), \(Int(rate)) events/s")
    }

    @Test func aLineOfTheLogSaysWhenWhoAndWhat() throws {
        let yard = Yard(.portRestricted)
        let socket = try #require(yard.inner.udp(port: 5_000))
        let request = message(MessageType(.binding, .request))
        socket.send(request, to: Endpoint("20.1.0.1", 1_000))
        try yard.internet.run(seconds: 1)
        let lines = yard.internet.log.text(last: 10).split(separator: "\n").map(String.init)
        try #require(lines.count == 6)
        #expect(
            lines[0].contains("0.000000 #1 sent by inner  192.168.1.2:5000 → 20.1.0.1:1000  UDP 20  Binding request")
        )
        #expect(lines[1].contains("0.000500 #1 through home  30.0.0.1:5000 → 20.1.0.1:1000"))
        #expect(lines[2].contains("LOST (noSocket) at far"))
        #expect(lines[3].contains("#2 sent by far") && lines[3].contains("ICMP port unreachable"))
        #expect(lines[4].contains("through home  20.1.0.1:0 → 192.168.1.2:0  ICMP"))
        #expect(lines[5].contains("arrived at inner"))
    }

    /// What the failing runs below have said.
    private static let said = Mutex<[String]>([])

    @Test(
        .compactMapIssues { issue in
            let text = issue.comments.map(\.rawValue).joined()
            guard text.contains("LAB_SEED=") else { return issue }
            DeterminismTests.said.withLock { $0.append(text) }
            return nil
        }
    )
    func aFailureSaysItsSeedAndShowsItsPacketsAndAfterThreeItIsEnough() async {
        await withSeeds(40..<50) { seed in
            let internet = Internet(seed: seed) { net in
                net.host("a")
                net.host("b")
            }
            internet.host("a").udp(port: 9)?.send("seen with \(seed)", to: Endpoint("30.0.0.2", 9))
            try internet.run(seconds: 1)
            #expect(seed % 2 == 0)
        }
        let said = Self.said.withLock { $0 }
        #expect(said.count == 3)
        for (text, seed) in zip(said, [41, 43, 45]) {
            #expect(text.contains("LAB_SEED=\(seed)\n") && text.contains("\"seen with \(seed)\""))
        }
    }
}

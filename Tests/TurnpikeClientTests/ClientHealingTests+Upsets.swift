import Lab
import STUN
import Testing
import Traversal

@testable import TurnpikeClient

/// What happens to servers and NATs while data flows, and for how long it stands still.
extension ClientHealingTests {
    enum Upset: String, CaseIterable, Sendable, CustomTestStringConvertible {
        case turnRestarts = "the TURN server restarts"
        /// A process that is killed and started again.
        case turnIsAway = "the TURN server is away for 1.5 s"
        case bothRestart = "the TURN and signaling servers restart"
        case bothAreAway = "the TURN and signaling servers are away for 1.5 s"
        case natForgetsByRelay = "the NAT forgets all mappings, path by the relay"
        case natForgets = "the NAT forgets all mappings, path direct"
        case natMovesByRelay = "the NAT gets another address, path by the relay"
        case natMoves = "the NAT gets another address, path direct"

        var testDescription: String { rawValue }

        var isDirect: Bool { self == .natForgets || self == .natMoves }

        /// For so long nobody could help it.
        var awaySeconds: Double {
            self == .turnIsAway || self == .bothAreAway ? 1.5 : 0
        }

        func strike(_ world: ClientWorld) {
            let (turn, signaling) = (world.internet.relay("turn"), world.internet.rendezvous("signaling"))
            let router = world.internet.router(ClientWorld.router("alice"))
            switch self {
            case .turnRestarts: turn.restart()
            case .bothRestart:
                turn.restart()
                signaling.restart()
            case .turnIsAway, .bothAreAway:
                let areBoth = self == .bothAreAway
                turn.host.link.cut(afterSeconds: 0, forSeconds: awaySeconds)
                if areBoth { signaling.host.link.cut(afterSeconds: 0, forSeconds: awaySeconds) }
                world.internet.scheduler.after(seconds: awaySeconds) {
                    turn.restart()
                    if areBoth { signaling.restart() }
                }
            case .natForgets, .natForgetsByRelay: router.reboot()
            case .natMoves, .natMovesByRelay: router.renumber()
            }
        }
    }

    @Test(arguments: Upset.allCases)
    func dataFlowsAgainWithinTwoSeconds(upset: Upset) async {
        let (stalls, returns) = (Figures(), Figures())
        await withWorlds(runs(3)) { seed in
            let world = try Self.world(upset.isDirect ? .portRestricted : .symmetric, seed: seed) { _, configuration in
                // The relay is to carry it all the time.
                configuration.symmetricPunching = .never
            }
            try world.start()
            #expect(try world.meet(), world.comment)
            try world.internet.run(seconds: 3)
            #expect(upset.isDirect ? world.areDirect : world.areRelayed, world.comment)
            let traffic = ClientTraffic(world)
            // It strikes at any point of checks, consent and the relays' lives.
            try world.internet.run(seconds: 1.1 + 1.73 * Double(seed % 7) + Double(seed % 10) / 20)
            let struck = world.internet.now
            upset.strike(world)
            // What was under way arrives.
            try world.internet.run(seconds: upset.awaySeconds + 0.2)
            let isBack = try world.internet.run(
                while: { !traffic.flows || upset.isDirect && !world.areDirect },
                atMostSeconds: 5
            )
            #expect(isBack, world.comment)
            if upset.isDirect { returns.add(Double(world.internet.now - struck) / 1e9) }
            try world.internet.run(seconds: 12)
            let stall = traffic.longestGapSeconds(since: struck) - upset.awaySeconds
            stalls.add(stall)
            #expect(stall <= 2, world.comment)
            #expect(try traffic.stop(), world.comment)
            #expect(traffic.misplaced == 0)
            #expect(world.alice.disconnections.isEmpty && world.bob.disconnections.isEmpty)
            #expect(world.alice.isRegistered && world.bob.isRegistered)
            try world.close()
        }
        print(stalls.text("\(upset.rawValue), s"))
        guard upset.isDirect else { return }
        #expect(returns.quantile(1) <= 3)
        print(returns.text("\(upset.rawValue): direct again, s"))
    }
}

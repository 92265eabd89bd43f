import Foundation
import Lab
import STUN
import Testing
import Traversal

/// What holds of two ICE agents whatever lies between them and whatever happens to it. Everything is drawn: NATs behind
/// NATs, firewalls, IPv6 beside IPv4, links that lose, repeat and reorder, slow signaling, restarts from both sides,
/// roles that conflict, relays that are gone, and somebody who forges checks. `LAB_RUNS=n` says how many of them.
@Suite struct ICEPropertyTests {
    private enum Event: CaseIterable {
        case aliceRestarts, bobRestarts, bothRestart, rolesConflict, relayRestart, hubRestart, oneForgets, otherForgets,
            loss, linkCut, quiet
    }

    @Test func twoAgentsAgreeWheneverTheyAreLeftInPeace() async {
        await withSeeds(runs(12)) { seed in
            var dice = Dice(seed: seed, for: "properties")
            let quality = Self.quality(&dice)
            let internet = Self.internet(seed, quality, &dice)
            let alice = LabPeer(internet, "alice", on: "a")
            let bob = LabPeer(internet, "bob", on: "b")
            let peers = [alice, bob]
            let rate = CheckRate(["a": alice, "b": bob])
            internet.log.observe = rate.see
            let mallory = Mallory(internet, peers)
            bob.start(gathers: dice.chance(0.5))
            if dice.chance(0.5) { alice.start(gathers: true) }
            try internet.run(seconds: 1 + dice.unit())
            alice.connect(to: "bob")
            var happened: [String] = []
            for _ in 0..<6 {
                try internet.run(seconds: dice.chance(0.5) ? 12 * dice.unit() : dice.unit())
                Self.expectSound(peers, "\(happened)")
                let event = Event.allCases[Int(dice.below(UInt64(Event.allCases.count)))]
                happened.append("\(event) at \(internet.seconds) s")
                Self.happen(event, alice, bob, internet, quality, &dice)
                mallory.attack()
            }
            try internet.run(seconds: 20)
            for link in ["one", "other"].map({ internet.router($0).link }) { link.quality = .access }
            Self.expectSound(peers, "\(happened)")
            try internet.run(seconds: 100)
            Self.expectSound(peers, "\(happened)")
            var comment: Comment { "\(happened)\nalice \(alice.ice.report)\nbob \(bob.ice.report)" }
            // A search for a direct path may be under way just then.
            #expect(try internet.run(while: { !Self.agree(alice, bob) }, atMostSeconds: 20), comment)
            #expect(alice.ice.role != bob.ice.role, comment)
            #expect(rate.excess == 0 && rate.count > 0, comment)
            #expect(mallory.heard == 0, comment)
            // Nothing goes on by a path that gives no consent (RFC 7675 section 5.1), relays or not.
            bob.host.link.cut()
            try internet.run(seconds: 32)
            #expect(alice.path == nil, comment)
            #expect(internet.log.isConserved)
        }
    }

    private static func agree(_ alice: LabPeer, _ bob: LabPeer) -> Bool {
        let selected = [alice, bob].map { peer in peer.ice.report.pairs.first { $0.isSelected } }
        guard let ours = selected[0], let theirs = selected[1] else { return false }
        return ours.local == theirs.remote && ours.remote == theirs.local
    }

    private static func expectSound(_ peers: [LabPeer], _ happened: String) {
        for peer in peers {
            let report = peer.ice.report
            let isSound =
                report.pairs.count { $0.isSelected } == (peer.ice.path == nil ? 0 : 1)
                && report.pairs.count <= ICELimits.pairs + 1 && report.remoteCandidates <= ICELimits.remoteCandidates
            #expect(isSound, "\(peer.name) after \(happened)\n\(report)")
        }
    }

    // MARK: What is drawn

    private static func quality(_ dice: inout Dice) -> LinkQuality {
        var quality = LinkQuality(
            delayMilliseconds: 2 + 60 * dice.unit(),
            jitterMilliseconds: 10 * dice.unit(),
            // Both links and both directions: twice this each way, so that a check and its answer meet it four times.
            lossRatio: dice.chance(0.5) ? 0 : 0.05 * dice.unit(),
            reorderRatio: dice.chance(0.5) ? 0 : 0.1
        )
        quality.duplicateRatio = dice.chance(0.5) ? 0 : 0.1
        return quality
    }

    private static func internet(_ seed: UInt64, _ quality: LinkQuality, _ dice: inout Dice) -> Internet {
        let users = Dictionary(uniqueKeysWithValues: ["alice", "bob"].map { ($0, LabPeer.password($0)) })
        var signaling = quality
        signaling.delayMilliseconds = dice.chance(0.3) ? 400 : 10
        let (first, second) = (behavior(&dice), behavior(&dice))
        let (isDouble, isShared, hasIPv6) = (dice.chance(0.4), dice.chance(0.2), dice.chance(0.4))
        return Internet(seed: seed) { net in
            net.relay("turn", users: users, v6: hasIPv6)
            net.rendezvous("signaling", users: users, signaling)
            net.host("m")
            func home(_ name: String, _ behavior: NATBehavior, _ host: String, in network: Network) {
                network.nat(name, behavior, quality) { $0.host(host, v6: hasIPv6) }
            }
            if isShared {
                // Both behind one carrier, whose NAT turns their packets round.
                net.nat("carrier", .carrierGrade) { isp in
                    home("one", first, "a", in: isp)
                    home("other", second, "b", in: isp)
                }
            } else if isDouble {
                net.nat("carrier", .carrierGrade) { isp in home("one", first, "a", in: isp) }
                home("other", second, "b", in: net)
            } else {
                home("one", first, "a", in: net)
                home("other", second, "b", in: net)
            }
        }
    }

    private static func behavior(_ dice: inout Dice) -> NATBehavior {
        let sides: [NATSide] = [.fullCone, .restricted, .portRestricted, .symmetric]
        let behavior = sides[Int(dice.below(4))].behavior(&dice) ?? .portRestricted
        // A chunk is a carrier's, and so would be the addresses within.
        if case .chunked = behavior.allocation { return behavior.with { $0.allocation = .random } }
        return behavior
    }

    private static func happen(
        _ event: Event,
        _ alice: LabPeer,
        _ bob: LabPeer,
        _ internet: Internet,
        _ quality: LinkQuality,
        _ dice: inout Dice
    ) {
        let link = internet.router(dice.chance(0.5) ? "one" : "other").link
        switch event {
        case .aliceRestarts: alice.renegotiate()
        case .bobRestarts: if bob.isRegistered { bob.renegotiate() }
        case .bothRestart:
            alice.renegotiate()
            if bob.isRegistered { bob.renegotiate() }
        case .rolesConflict: alice.renegotiate(as: bob.ice.role)
        case .relayRestart: internet.relay("turn").restart()
        case .hubRestart: internet.rendezvous("signaling").restart()
        case .oneForgets: internet.router("one").reboot()
        case .otherForgets: internet.router("other").reboot()
        case .loss:
            link.quality.lossRatio = 0.2
            internet.scheduler.after(seconds: 10) { [weak link] in link?.quality = quality }
        case .linkCut: link.cut(afterSeconds: 0, forSeconds: 1 + 15 * dice.unit())
        case .quiet: break
        }
    }
}

/// How soon one check follows the other, as long as a host has no path and sends nothing but checks: those that are
/// begun keep the distance Ta (RFC 8445 section 14.2), and retransmissions theirs.
private final class CheckRate {
    private(set) var excess = 0
    private(set) var count = 0
    private let peers: [String: LabPeer]
    private var last: [String: UInt64] = [:]
    private var known: Set<[UInt8]> = []

    init(_ peers: [String: LabPeer]) { self.peers = peers }

    func see(_ entry: PacketLog.Entry) {
        guard entry.event == .sent, let peer = peers[entry.place], peer.paths.isEmpty,
            case .datagram(let bytes) = entry.packet.body, bytes.count > 24,
            // A Binding request that begins with USERNAME.
            bytes[0] == 0, bytes[1] == 1, bytes[20] == 0, bytes[21] == 6,
            known.insert(Array(bytes[8..<20])).inserted
        else { return }
        count += 1
        if let before = last[entry.place], entry.time - before < peer.options.ice.pacing { excess += 1 }
        last[entry.place] = entry.time
    }
}

/// Has read all that was signaled but the passwords.
private final class Mallory {
    private(set) var heard = 0
    private let internet: Internet
    private let peers: [LabPeer]
    private let socket: UDPSocket?
    private var dice: Dice

    init(_ internet: Internet, _ peers: [LabPeer]) {
        (self.internet, self.peers) = (internet, peers)
        dice = Dice(seed: internet.seed, for: "mallory")
        socket = internet.host("m").udp()
        socket?.onReceive = { [weak self] _ in self?.heard += 1 }
    }

    /// Checks and answers with a wrong MAC, with none, and things that are no STUN, to every address of both.
    func attack() {
        for (peer, other) in zip(peers, peers.reversed()) {
            let fragments = [peer, other].map(\.ice.localCredentials.usernameFragment).joined(separator: ":")
            for target in Set(other.ice.report.pairs.map(\.remote)) {
                for type in [MessageType(.binding, .request), MessageType(.binding, .successResponse)] {
                    for hasMAC in [true, false] { socket?.send(forged(type, fragments, hasMAC), to: target) }
                }
                socket?.send([22, 254, 253, 0, 0], to: target)
            }
        }
    }

    private func forged(_ type: MessageType, _ fragments: String, _ hasMAC: Bool) -> [UInt8] {
        let id = TransactionID(high: dice.next(), low: UInt32(truncatingIfNeeded: dice.next()))
        let mac = dice.bytes(20)
        return [UInt8](unsafeUninitializedCapacity: 256) { buffer, count in
            var builder = MessageBuilder(type, id, into: UnsafeMutableRawBufferPointer(buffer))
            builder.append(.username, Array(fragments.utf8))
            builder.append(AttributeType(rawValue: 0x0024), [0x6E, 0, 1, 0xFF])
            builder.append(AttributeType(rawValue: 0x802A), Array(mac.prefix(8)))
            builder.append(AttributeType(rawValue: 0x0025), [])
            if hasMAC { builder.append(.messageIntegrity, mac) }
            builder.appendFingerprint()
            count = builder.finish() ?? 0
        }
    }
}

import STUN
import TURN
import TestSupport
import Testing

/// Random steps of clients, peers and time over TCP allocations, and what has to hold after each.
@Suite struct PeerConnectionFuzzTests {
    @Test func noStepLosesAConnectionOrGivesOneAwayTwice() throws {
        var generator = SeededGenerator(for: "peer connections")
        let lab = try Lab {
            $0.relaysTCP = true
            // Longer than all the time that passes: a client that is told of a stale nonce does nothing more here.
            $0.nonceLifetimeSeconds = 86_400
            $0.policy.ownAddresses = [IPAddress("203.0.113.5")]
        }
        let clients = (0..<4).map { lab.streamClient($0 < 2 ? "alice" : "bob", port: 2_000 + UInt16($0)) }
        /// What the host holds, and by whose allocation.
        var open: [PeerConnectionKey: Int] = [:]
        var bound: Set<PeerConnectionKey> = []
        var history: [(bytes: [UInt8], tuple: FiveTuple)] = []

        for step in 0..<fuzzRounds(20_000) {
            let who = Int.random(in: 0..<4, using: &generator)
            let client = clients[who]
            if client.nonce.isEmpty { client.challenge() }
            let address = ["8.8.8.8", "8.8.4.4", "10.0.0.1", "203.0.113.5"].randomElement(using: &generator) ?? ""
            let peer = Endpoint(address, UInt16.random(in: 1_000..<1_008, using: &generator))
            let some = open.keys.sorted { $0.id < $1.id }.randomElement(using: &generator)
            switch Int.random(in: 0..<24, using: &generator) {
            case 0..<3: _ = client.allocateStream()
            case 3: _ = client.refresh(Bool.random(using: &generator) ? 0 : 600)
            case 4, 5: _ = client.permit([peer])
            case 6..<10:
                let bytes = client.request(.connect, signing: client.signing()) {
                    $0.append(.xorPeerAddress, xor: peer)
                }
                history.append((bytes, client.tuple))
                _ = client.send(bytes)
            case 10..<12: if let some { lab.connected(some) }
            case 12: if let some { lab.failed(some) }
            case 13..<15:
                if let arrived = lab.arrive(peer, at: client) {
                    #expect(open[arrived] == nil && peer.address.v4 >> 16 == 0x0808, "step \(step)")
                    open[arrived] = who
                }
            case 15..<18:
                guard let some, let owner = open[some] else { break }
                let thief = who < 2 ? "alice" : "bob"
                let claimed = lab.claim(some.id, by: thief)
                if claimed != nil {
                    #expect(claimed == some && (owner < 2) == (who < 2), "step \(step)")
                    #expect(bound.insert(some).inserted, "step \(step): claimed twice")
                }
            case 18:
                if let some {
                    lab.ended(some)
                    open[some] = nil
                }
            case 19: lab.advance(seconds: UInt64.random(in: 1..<35, using: &generator))
            case 20: lab.engine.disconnect(client.tuple, at: lab.moment)
            case 21: lab.engine.revoke(user: who < 2 ? "alice" : "bob", at: lab.moment)
            default:
                // A message changed on its way: nothing but its client's own MAC lets it through.
                guard let sent = history.suffix(20).randomElement(using: &generator) else { break }
                var bytes = sent.bytes
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[place] ^= UInt8.random(in: 1...255, using: &generator)
                _ = lab.receive(bytes, from: sent.tuple)
            }
            for effect in lab.takeEffects() {
                switch effect {
                case .connect(let wanted, let destination, _):
                    #expect(open[wanted] == nil, "step \(step)")
                    #expect(destination.address.v4 >> 16 == 0x0808, "step \(step): \(destination)")
                    open[wanted] = who
                case .close(let gone):
                    #expect(open.removeValue(forKey: gone) != nil, "step \(step): closed twice")
                case .send(let message): #expect(Answer(message.bytes) != nil)
                }
            }
            #expect(lab.shared.connectionQuota.total == open.count, "step \(step)")
            if lab.shared.connectionQuota.total != open.count { return }
            for held in open.keys where !lab.isCurrent(held) {
                Issue.record("step \(step): the host holds what the engine has forgotten")
                return
            }
        }
        #expect(!bound.isEmpty, "the steps lead nowhere")
    }
}

import STUN
import TestSupport
import Testing
import Traversal

/// Packets of a live session, damaged and invented, with and without the right key.
@Suite struct PacketFuzzTests {
    @Test func noMutatedPacketTrapsOrBreaksTheSession() throws {
        var generator = SeededGenerator(for: "noMutatedPacketTrapsOrBreaksTheSession")
        var rest = fuzzRounds(15_000)
        while rest > 0 {
            // Sessions begin anew, since what is signed fills the checklists soon.
            try session(of: min(rest, 5_000), &generator)
            rest -= 5_000
        }
    }

    private func session(of rounds: Int, _ generator: inout SeededGenerator) throws {
        let network = SimulatedNetwork(seed: generator.next())
        let offerer = try network.addPeer(.portRestricted, role: .controlling)
        let answerer = try network.addPeer(.fullCone, role: .controlled)
        network.connect(offerer, answerer)
        network.run(for: UInt64.random(in: 0...20, using: &generator) * 100 * milliseconds)
        var recent: [(base: ICEBase, to: Endpoint, bytes: [UInt8])] = []
        for round in 0..<rounds {
            if round % 64 == 0 {
                (offerer.sent, answerer.sent) = (offerer.sent.suffix(40), answerer.sent.suffix(40))
                network.run(for: UInt64.random(in: 1...30, using: &generator) * 10 * milliseconds)
                recent = offerer.sent + answerer.sent
            }
            let target = Bool.random(using: &generator) ? offerer : answerer
            let base = Bool.random(using: &generator) ? SimulatedPeer.socket : SimulatedPeer.relayBase
            guard let sample = recent.randomElement(using: &generator) else { continue }
            var source = sample.to
            if Int.random(in: 0..<4, using: &generator) == 0 {
                source.port = UInt16.random(in: 1...9, using: &generator)
            }
            var bytes = sample.bytes
            if Int.random(in: 0..<4, using: &generator) == 0 {
                bytes = try invented(for: target, &generator)
            } else {
                mutate(&bytes, &generator)
            }
            network.hand(bytes, to: target, base, from: source)
        }
        for peer in network.peers {
            let report = peer.agent.report
            #expect(report.pairs.count <= ICELimits.pairs)
            #expect(report.remoteCandidates <= ICELimits.remoteCandidates + ICELimits.names)
            // A fuzzer whose packets all stop at one door would show nothing.
            let counters = report.counters
            #expect(counters.unauthenticated + counters.unexpectedAnswers > 50, "\(counters)")
            #expect(counters.malformed > 100 && counters.refusedRequests > 0, "\(counters)")
            #expect(counters.answeredRequests > 0, "\(counters)")
        }
        // Whatever roles the signed ones have talked them into, they still find each other.
        network.run(for: 15 * seconds)
        #expect(network.isConnected, "\(offerer.agent.report)\n\(answerer.agent.report)")
    }

    private func mutate(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
        for _ in 0..<Int.random(in: 1...3, using: &generator) where !bytes.isEmpty {
            let place = Int.random(in: 0..<bytes.count, using: &generator)
            switch Int.random(in: 0..<5, using: &generator) {
            case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 1: bytes[place] = UInt8.random(in: .min ... .max, using: &generator)
            case 2: bytes.removeLast(min(bytes.count, 4))
            case 3: bytes.removeSubrange(place...)
            default: bytes += bytes.prefix(8)
            }
        }
        // Often with the length and FINGERPRINT that belong to it, so that it gets past the first look.
        guard bytes.count >= 32, Bool.random(using: &generator) else { return }
        bytes.removeLast(bytes.count % 4)
        bytes.withUnsafeMutableBytes { buffer in
            buffer.storeBytes(of: UInt16(buffer.count - 20).bigEndian, toByteOffset: 2, as: UInt16.self)
            let end = buffer.count - 8
            buffer.storeBytes(of: UInt32(0x8028_0004).bigEndian, toByteOffset: end, as: UInt32.self)
            let value = Fingerprint.value(of: UnsafeRawBufferPointer(rebasing: buffer[..<end]))
            buffer.storeBytes(of: value.bigEndian, toByteOffset: end + 4, as: UInt32.self)
        }
    }

    /// A request that the peer could have signed, with attributes by chance.
    private func invented(for target: SimulatedPeer, _ generator: inout SeededGenerator) throws -> [UInt8] {
        let cryptography = try Self.cryptography.get()
        let credentials = target.agent.localCredentials
        let transaction = TransactionID(high: generator.next(), low: UInt32(truncatingIfNeeded: generator.next()))
        var types = ([0x0024, 0x0024, 0x0025, 0x8029, 0x802A, 0xC001, 0x0026, 0x7FFF] as [UInt16]).shuffled(
            using: &generator
        )
        types.removeFirst(Int.random(in: 1...7, using: &generator))
        var space = [UInt8](repeating: 0, count: 600)
        let count = space.withUnsafeMutableBytes { buffer -> Int in
            var builder = MessageBuilder(MessageType(.binding, .request), transaction, into: buffer)
            builder.append(.username, Array("\(credentials.usernameFragment):\(peerFragment(target))".utf8))
            for type in types {
                let usual = type == 0x8029 || type == 0x802A ? 8 : type == 0x0025 ? 0 : 4
                let isOdd = Int.random(in: 0..<8, using: &generator) == 0
                let length = isOdd ? Int.random(in: 0...12, using: &generator) : usual
                let value = (0..<length).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
                builder.append(AttributeType(rawValue: type), value)
            }
            Array(credentials.password.utf8).withUnsafeBytes { builder.append(.sha1, key: $0, with: cryptography) }
            builder.appendFingerprint()
            return builder.finish() ?? 0
        }
        return Array(space.prefix(count))
    }

    /// As the target's own requests name it.
    private func peerFragment(_ target: SimulatedPeer) -> String {
        let requests = target.sent.reversed().map(\.bytes).filter { $0.count > 24 && $0[0] == 0 && $0[1] == 1 }
        guard let request = requests.first else { return "none" }
        let username = request.dropFirst(24).prefix { $0 != UInt8(ascii: ":") }
        return String(decoding: username, as: UTF8.self)
    }

    private static let cryptography = Result { try SeededCryptography(seed: 1) }
}

import OpenSSLCrypto
import STUN
import TestSupport
import Testing
import Traversal

/// A server that knows the password and says nonsense: its answers are changed and signed again, so that all of a
/// client looks at them.
@Suite struct HostileServerTests {
    private static let peers = (1...40).map { Endpoint(address: IPAddress(v4: 0x0909_0900 + $0), port: 5_000) }

    @Test(arguments: [.udp, .tcp] as [TURNConfiguration.Transport])
    func signedNonsenseDoesNoHarm(transport: TURNConfiguration.Transport) throws {
        var generator = SeededGenerator(for: "signedNonsenseDoesNoHarm")
        let limit = fuzzRounds(150)
        let forger = try Forger()
        var (changed, allocated, ended) = (0, 0, 0)
        while changed < limit {
            let (hasBoth, isMobile) = (Bool.random(using: &generator), Bool.random(using: &generator))
            let world = try TURNWorld(
                transport: transport,
                client: {
                    $0.families = hasBoth ? .both : .ipv4
                    $0.wantsMobility = isMobile
                }
            )
            if Bool.random(using: &generator) { world.relays.families = [.ipv4, .ipv6] }
            if Bool.random(using: &generator) { world.pieceBytes = Int.random(in: 1...40, using: &generator) }
            let share = Int.random(in: 2...12, using: &generator)
            var random = SeededGenerator(seed: generator.next())
            world.onAnswer = { bytes in
                guard Int.random(in: 0..<share, using: &random) == 0 else { return bytes }
                changed += 1
                return forger.changed(bytes, &random)
            }
            world.start()
            for _ in 0..<40 where !world.hasEnded {
                act(world, &generator)
                if world.allocation != nil { allocated += 1 }
            }
            if world.hasEnded { ended += 1 }
            expectBounded(world)
        }
        // A forger whose every answer is refused at the door would show nothing.
        #expect(allocated > limit / 50, "\(allocated) steps with an allocation, \(ended) ended")
    }

    private func act(_ world: TURNWorld, _ generator: inout SeededGenerator) {
        guard let peer = Self.peers.randomElement(using: &generator) else { return }
        switch Int.random(in: 0..<12, using: &generator) {
        case 0...2: world.perform { $0.permit([peer.address], now: $1, into: &$2) }
        case 3...4: world.perform { $0.bindChannel(to: peer, now: $1, into: &$2) }
        case 5...6: world.send("data", to: peer)
        case 7: world.peerSends("data", from: peer, family: Bool.random(using: &generator) ? .ipv4 : .ipv6)
        case 8:
            let credential = TURNCredential(username: "bob", password: "builder")
            world.perform { $0.renew(credential, now: $1, into: &$2) }
        case 9: world.perform { _ = $0.moved(now: $1, into: &$2) }
        case 10: world.perform { client, _, _ in client.forget(peer.address) }
        default: world.advance(seconds: .random(in: 1...400, using: &generator))
        }
    }

    private func expectBounded(_ world: TURNWorld) {
        #expect(weight(of: world.client, except: { $0 is OpenSSLCryptography }) < 60_000)
        let latest = world.now + 3_600 * 24 * seconds
        #expect(world.client.nextDeadline.map { $0 < latest } ?? true, "no deadline within a day")
    }
}

/// Changes answers as one who holds the keys.
private struct Forger {
    private let keys: [AnswerKey]
    private let cryptography = try? OpenSSLCryptography()

    init() throws {
        keys = ["alice:example.org:wonderland", "bob:example.org:builder"].flatMap { text in
            let bytes = Array(text.utf8)
            let (old, new) = (Digest.md5(bytes), Digest.sha256(bytes))
            return [AnswerKey(.sha256, new), AnswerKey(.sha256, old), AnswerKey(.sha1, old)]
        }
    }

    func changed(_ bytes: [UInt8], _ random: inout SeededGenerator) -> [UInt8] {
        // Not all of it is a message: ChannelData, and what is not worth a signature.
        guard bytes.count >= 20, bytes[0] & 0xC0 == 0, Int.random(in: 0..<8, using: &random) > 0 else {
            return mutated(bytes, &random)
        }
        let parts = bytes.withUnsafeBytes { bytes -> (MessageType, TransactionID, [(UInt16, [UInt8])])? in
            guard let view = try? MessageView(bytes) else { return nil }
            var attributes: [(UInt16, [UInt8])] = []
            var iterator = view.attributes
            while let next = iterator.next() { attributes.append((next.type.rawValue, Array(next.value))) }
            return (view.type, view.transactionID, attributes)
        }
        guard var (type, id, attributes) = parts else { return mutated(bytes, &random) }
        attributes.removeAll { [0x0008, 0x001C, 0x8028].contains($0.0) }
        for _ in 0..<Int.random(in: 1...3, using: &random) { change(&attributes, &random) }
        if Int.random(in: 0..<6, using: &random) == 0 {
            let isError = Bool.random(using: &random)
            type = MessageType(type.method, isError ? .errorResponse : .successResponse)
        }
        if Int.random(in: 0..<20, using: &random) == 0 { id = TransactionID(high: id.high ^ 1, low: id.low) }
        return signed(type, id, attributes, &random)
    }

    private func change(_ attributes: inout [(UInt16, [UInt8])], _ random: inout SeededGenerator) {
        let place = attributes.indices.randomElement(using: &random)
        switch Int.random(in: 0..<8, using: &random) {
        case 0: if let place { attributes.remove(at: place) }
        case 1: if let place { attributes.append(attributes[place]) }
        case 2: attributes.shuffle(using: &random)
        case 3...4: if let place { attributes[place].1 = mutated(attributes[place].1, &random) }
        case 5: if let place { attributes[place].1 = extreme(attributes[place].1.count, &random) }
        case 6:
            let code = [300, 400, 401, 403, 405, 420, 437, 438, 440, 441, 442, 443, 486, 500, 508, 699, 0]
            let chosen = code.randomElement(using: &random) ?? 0
            attributes.insert((0x0009, [0, 0, UInt8(chosen / 100), UInt8(chosen % 100)]), at: 0)
        default:
            let type = Self.types.randomElement(using: &random) ?? 0
            let length = [0, 1, 3, 4, 8, 20, 200].randomElement(using: &random) ?? 0
            attributes.insert((type, extreme(length, &random)), at: place ?? 0)
        }
    }

    /// Numbers at the edges, and by chance.
    private func extreme(_ length: Int, _ random: inout SeededGenerator) -> [UInt8] {
        let byte: UInt8? = [0, 0xFF, 0x7F, nil].randomElement(using: &random) ?? nil
        return (0..<length).map { _ in byte ?? UInt8.random(in: .min ... .max, using: &random) }
    }

    private func signed(
        _ type: MessageType,
        _ id: TransactionID,
        _ attributes: [(UInt16, [UInt8])],
        _ random: inout SeededGenerator
    ) -> [UInt8] {
        var space = [UInt8](repeating: 0, count: 2_048)
        let key = keys.randomElement(using: &random)
        let count = space.withUnsafeMutableBytes { buffer -> Int in
            var builder = MessageBuilder(type, id, into: buffer)
            for (type, value) in attributes { builder.append(AttributeType(rawValue: type), value) }
            if let key, let cryptography {
                key.key.withUnsafeBytes { builder.append(key.integrity, key: $0, with: cryptography) }
            }
            return builder.finish() ?? 0
        }
        return Array(space.prefix(count))
    }

    private static let types: [UInt16] = [
        0x0001, 0x0006, 0x0009, 0x000A, 0x000C, 0x000D, 0x0012, 0x0013, 0x0014, 0x0015, 0x0016, 0x0017, 0x001D, 0x0020,
        0x0022, 0x002A, 0x7FFF, 0x8001, 0x8002, 0x8003, 0x8004, 0x8023, 0x8030, 0xFFFF,
    ]
}

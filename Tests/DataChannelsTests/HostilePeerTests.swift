import TestSupport
import Testing

@testable import DataChannels

/// A peer that was let in by its certificate and says what no SCTP says.
@Suite(.serialized) struct HostilePeerTests {
    /// INIT, its answer with the cookie, and the cookie's echo are changed on their way, lost, repeated and reordered.
    @Test func changedHandshakesDoNoHarm() async throws {
        var random = SeededGenerator(for: "SCTP handshake")
        let rounds = fuzzRounds(300)
        try await SCTPTime.virtual {
            let before = SCTPStack.shared.associationCount
            var (changed, opened) = (0, 0)
            while changed < rounds {
                var network = PeerPair.Network()
                network.lossPercent = .random(in: 0...20, using: &random)
                network.jitterMilliseconds = .random(in: 0...400, using: &random)
                let pair = try PeerPair(network, seed: random.next())
                var dice = SeededGenerator(seed: random.next())
                let share = Int.random(in: 2...10, using: &random)
                var seen: [[UInt8]] = []
                pair.tamper = { packet in
                    seen.append(packet)
                    guard Int.random(in: 0..<share, using: &dice) == 0 else { return }
                    changed += 1
                    // Now and then an older one, of either side, in its place.
                    if Int.random(in: 0..<6, using: &dice) == 0 {
                        packet = seen.randomElement(using: &dice) ?? packet
                    } else {
                        packet = Self.changed(packet, &dice)
                    }
                }
                let channel = try? pair.client.openChannel(.init(label: "x"))
                try pair.connect()
                pair.run(for: .random(in: 500...3_000, using: &random))
                if pair.has(.opened, .client) && pair.has(.opened, .server) {
                    opened += 1
                    _ = pair.client.send(pattern(200, seed: 1), on: channel?.id ?? 0)
                }
                pair.run(for: 200)
            }
            #expect(SCTPStack.shared.associationCount == before)
            #expect(opened > 0)
        }
    }

    /// Chunks of every kind, made up by their formats, in packets that have the right tag and checksum.
    @Test func inventedChunksDoNoHarm() async throws {
        var random = SeededGenerator(for: "SCTP chunks")
        let rounds = fuzzRounds(150)
        try await SCTPTime.virtual {
            let before = SCTPStack.shared.associationCount
            var invented = 0
            while invented < rounds {
                let pair = try PeerPair.connected(seed: random.next())
                var dice = SeededGenerator(seed: random.next())
                pair.tamper = { packet in
                    guard packet.count > 16, Int.random(in: 0..<3, using: &dice) == 0 else { return }
                    invented += 1
                    packet = Self.invented(after: packet, &dice)
                }
                for step in 0..<12 {
                    for side in PeerPair.Side.allCases {
                        let channel = try? pair[side].openChannel(.init(label: "x"))
                        _ = pair[side].send(pattern(.random(in: 0...3_000, using: &random), seed: step), on: 0)
                        if step % 3 == 0, let channel { pair[side].closeChannel(channel.id) }
                    }
                    pair.run(for: 40)
                }
                pair.run(for: 300)
            }
            #expect(SCTPStack.shared.associationCount == before)
        }
    }

    /// What the peer's own stack would never send on a channel: the establishment protocol's messages changed, on any
    /// stream, and payloads by protocols that there are none of.
    @Test func changedEstablishmentMessagesDoNoHarm() async throws {
        var random = SeededGenerator(for: "DCEP")
        let rounds = fuzzRounds(3_000)
        let samples = Self.establishmentSamples
        try await SCTPTime.virtual {
            var (sent, opened) = (0, 0)
            while sent < rounds {
                let pair = try PeerPair.connected(seed: random.next())
                for _ in 0..<200 {
                    var bytes = samples.randomElement(using: &random) ?? []
                    for _ in 0..<Int.random(in: 0...3, using: &random) { mutate(&bytes, using: &random) }
                    guard !bytes.isEmpty else { continue }
                    let payload: PayloadProtocol =
                        Int.random(in: 0..<8, using: &random) > 0
                        ? .establishment
                        : [.text, .binary, .emptyText, .emptyBinary].randomElement(using: &random) ?? .text
                    let framing = Framing(
                        stream: .random(in: 0..<pair.client.streamLimit, using: &random) & 0x1F,
                        payload: payload,
                        isUnordered: Bool.random(using: &random)
                    )
                    sent += 1
                    SCTPStack.shared.run { _ in
                        guard let socket = pair.client.socket else { return }
                        bytes.withUnsafeBytes { try? socket.send($0, framing) }
                    }
                    if Int.random(in: 0..<10, using: &random) == 0 { pair.run(for: 30) }
                    if Int.random(in: 0..<20, using: &random) == 0 {
                        pair.server.closeChannel(.random(in: 0..<32, using: &random))
                    }
                }
                pair.run(for: 500)
                opened += pair.take(.server).count { event in
                    if case .channelOpened(_, byPeer: true) = event { true } else { false }
                }
                #expect(pair.server.channelCount <= pair.server.options.channelLimit)
                #expect(pair.server.waitingControl.isEmpty && pair.server.answeredResets.count <= 32)
            }
            #expect(opened > 0)
        }
    }

    /// Read, written and read again, they say the same.
    @Test func establishmentMessagesAreReadAsTheyAreWritten() {
        var random = SeededGenerator(for: "DCEP text")
        let rounds = fuzzRounds(20_000)
        var read = 0
        for _ in 0..<rounds {
            var bytes = Self.establishmentSamples.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 0...3, using: &random) { mutate(&bytes, using: &random) }
            guard let message = EstablishmentMessage(bytes, id: 3) else { continue }
            read += 1
            // What is no UTF-8 becomes longer by its replacement characters, and is cut where it is written.
            if case .open(let channel) = message,
                max(channel.label.utf8.count, channel.subprotocol.utf8.count) > DataChannelLimits.nameBytes
            {
                continue
            }
            #expect(EstablishmentMessage(message.bytes, id: 3) == message)
        }
        #expect(read > rounds / 100)
    }

    private static let establishmentSamples: [[UInt8]] =
        [
            channel("label", "turnpike-forward"), channel("", "", isOrdered: false),
            channel("ä", "x", .maxRetransmits(3)),
            channel("l", "", .maxLifetime(50)), channel(String(repeating: "l", count: 4_096), "x"),
        ].map { EstablishmentMessage.open($0).bytes } + [EstablishmentMessage.acknowledgement.bytes]

    private static func channel(
        _ label: String,
        _ subprotocol: String,
        _ reliability: DataChannel.Reliability = .reliable,
        isOrdered: Bool = true
    ) -> DataChannel {
        DataChannel(
            id: 1,
            label: label,
            subprotocol: subprotocol,
            isOrdered: isOrdered,
            reliability: reliability,
            priority: 256
        )
    }

    // MARK: Packets

    /// A few bytes of a packet, mostly with the checksum made right.
    private static func changed(_ packet: [UInt8], _ dice: inout SeededGenerator) -> [UInt8] {
        guard packet.count > 12 else { return packet }
        if Int.random(in: 0..<20, using: &dice) == 0 {
            var packet = packet
            mutate(&packet, using: &dice)
            return packet
        }
        var body = Array(packet[12...])
        for _ in 0..<Int.random(in: 1...3, using: &dice) { mutate(&body, using: &dice) }
        // An INIT's tag is zero, and every other packet's that of its receiver.
        return sealed(packet[..<8] + [0, 0, 0, 0] + body)
    }

    private static func invented(after packet: [UInt8], _ dice: inout SeededGenerator) -> [UInt8] {
        // The last TSN of the packet, if it has data: numbers near it are looked at more closely.
        let number = packet.count >= 20 ? packet[16..<20].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } : 0
        var chunks: [UInt8] = []
        for _ in 0..<Int.random(in: 1...4, using: &dice) { chunks += chunk(near: number, &dice) }
        switch Int.random(in: 0..<3, using: &dice) {
        case 0: return sealed(packet[..<8] + [0, 0, 0, 0] + chunks)
        case 1: return sealed(packet[..<8] + [0, 0, 0, 0] + packet[12...] + chunks)
        default: return sealed(packet[..<8] + [0, 0, 0, 0] + chunks + packet[12...])
        }
    }

    private static func chunk(near number: UInt32, _ dice: inout SeededGenerator) -> [UInt8] {
        let kinds: [UInt8] = [
            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 64, 128, 129, 130, 130, 130, 132, 192, 192, 193, 194,
            .random(in: .min ... .max, using: &dice),
        ]
        let kind = kinds.randomElement(using: &dice) ?? 0
        var body: [UInt8] = []
        // Numbers first, as all formats have them, and then parameters or gaps.
        for _ in 0..<Int.random(in: 0...4, using: &dice) { body += word(near: number, &dice) }
        for _ in 0..<Int.random(in: 0...4, using: &dice) { body += parameter(near: number, &dice) }
        let flags = UInt8.random(in: .min ... .max, using: &dice) & ([0, 3, 0xFF].randomElement(using: &dice) ?? 0)
        return item([kind, flags], body, &dice)
    }

    private static func parameter(near number: UInt32, _ dice: inout SeededGenerator) -> [UInt8] {
        let kinds: [UInt16] = [
            1, 5, 6, 7, 8, 9, 11, 12, 13, 13, 14, 15, 16, 17, 18, 0x8000, 0x8002, 0x8003, 0x8004, 0x8005, 0x8008,
            0xC000,
            0xC001, 0xC002, 0xC003, 0xC004, 0xC005, 0xC006, .random(in: .min ... .max, using: &dice),
        ]
        let kind = kinds.randomElement(using: &dice) ?? 0
        var body: [UInt8] = []
        for _ in 0..<Int.random(in: 0...5, using: &dice) { body += word(near: number, &dice) }
        if Bool.random(using: &dice) { body += [0, .random(in: 0...40, using: &dice)] }
        return item([UInt8(kind >> 8), UInt8(kind & 0xFF)], body, &dice)
    }

    /// With a length that is right as a rule, and padded.
    private static func item(_ head: [UInt8], _ body: [UInt8], _ dice: inout SeededGenerator) -> [UInt8] {
        var length = body.count + 4
        if Int.random(in: 0..<8, using: &dice) == 0 {
            length = [0, 1, 3, 4, 5, length + 1, length * 2, 0xFFFF].randomElement(using: &dice) ?? length
        }
        let padding = [UInt8](repeating: 0, count: -body.count & 3)
        return head + [UInt8(truncatingIfNeeded: length >> 8), UInt8(truncatingIfNeeded: length)] + body + padding
    }

    private static func word(near number: UInt32, _ dice: inout SeededGenerator) -> [UInt8] {
        let values: [UInt32] = [
            number, number &+ 1, number &- 1, number &+ .random(in: 0...3_000, using: &dice), 0, .max, 0x7FFF_FFFF,
            0x0001_0001, .random(in: 0...65_535, using: &dice), .random(in: .min ... .max, using: &dice),
        ]
        let value = values.randomElement(using: &dice) ?? 0
        return [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> UInt32($0)) }
    }
}

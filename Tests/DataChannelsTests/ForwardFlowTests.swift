import DataChannels
import TestSupport
import Testing

@Suite(.serialized) struct ForwardFlowTests {
    /// Readers and channels of every pace: what goes in comes out, both directions end, and nobody holds more than its
    /// window.
    @Test(arguments: 1...6)
    func bothDirectionsArriveWhole(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var opener = End(try ForwardFlow(opening: "[2001:db8::1]:80", windowBytes: 65_536), bytes: 150_000, seed: 1)
        var acceptor = End(ForwardFlow(windowBytes: 100_000), bytes: 120_000, seed: 2)
        for _ in 0..<100_000 where !(opener.flow.isDone && acceptor.flow.isDone) {
            if acceptor.flow.phase == .asked, Int.random(in: 0..<5, using: &random) == 0 { acceptor.flow.accept() }
            opener.work(using: &random)
            acceptor.work(using: &random)
            try opener.exchange(with: &acceptor, using: &random)
            #expect(opener.flow.heldBytes <= 65_536)
            #expect(acceptor.flow.heldBytes <= 100_000)
        }
        #expect(acceptor.flow.target == "[2001:db8::1]:80")
        #expect(opener.flow.isDone && acceptor.flow.isDone)
        #expect(acceptor.came == opener.source)
        #expect(opener.came == acceptor.source)
        #expect(opener.flow.shouldEndWriting && acceptor.flow.shouldEndWriting)
    }

    /// One reader has stopped. Its own connection stands still within its window, and the others go on over the same
    /// association.
    @Test func aReaderThatStopsHoldsUpItsOwnConnectionAlone() async throws {
        try await SCTPTime.virtual {
            let pair = try PeerPair.connected()
            var senders: [UInt16: ForwardFlow] = [:]
            var receivers: [UInt16: ForwardFlow] = [:]
            var came: [UInt16: Int] = [:]
            for _ in 0..<3 {
                let channel = try pair.client.openChannel(.init(label: "forward"))
                senders[channel.id] = try ForwardFlow(opening: "x:1", windowBytes: 65_536)
                receivers[channel.id] = ForwardFlow(windowBytes: 65_536)
            }
            let sleeper: UInt16 = 2
            let block = pattern(65_536, seed: 1)
            pair.run(for: 5_000) { pair in
                for id in senders.keys.sorted() {
                    Self.deliver(pair.messages(id, .client), to: &senders[id])
                    Self.deliver(pair.messages(id, .server), to: &receivers[id])
                    if receivers[id]?.phase == .asked { receivers[id]?.accept() }
                    if let count = senders[id]?.readableBytes {
                        _ = block.withUnsafeBytes { senders[id]?.read(.init(rebasing: $0[..<min(count, 65_536)])) }
                    }
                    while id != sleeper, let bytes = receivers[id]?.takeReceived() {
                        came[id, default: 0] += bytes.count
                        receivers[id]?.noteWritten(bytes.count)
                    }
                    _ = senders[id]?.sendWaiting { pair.client.send($0, on: id) }
                    _ = receivers[id]?.sendWaiting { pair.server.send($0, on: id) }
                }
                _ = (pair.take(.client), pair.take(.server))
                pair.collect()
                return false
            }
            #expect(receivers[sleeper]?.heldBytes == 65_536)
            #expect(senders[sleeper]?.readableBytes == 0)
            for id in [UInt16(0), 4] { #expect(came[id, default: 0] > 3_000_000, "\(came)") }
        }
    }

    private static func deliver(_ messages: [[UInt8]], to flow: inout ForwardFlow?) {
        for message in messages { #expect(throws: Never.self) { try flow?.receive(message) } }
    }

    /// A request goes with the word of its target, so it does not wait for the answer.
    @Test func theFirstBytesLeaveBeforeThePeerHasSaidAnything() throws {
        var opener = try ForwardFlow(opening: "x:1", windowBytes: 0)
        #expect(opener.readableBytes == ForwardLimits.earlyBytes)
        #expect(opener.read([1, 2, 3]) == 3)
        opener.end()
        #expect(opener.readableBytes == 0)
        var acceptor = ForwardFlow(windowBytes: 0)
        for message in opener.messages() { try acceptor.receive(message) }
        #expect(acceptor.phase == .asked)
        #expect(acceptor.takeReceived() == nil)
        acceptor.accept()
        #expect(acceptor.takeReceived() == [1, 2, 3])
        #expect(!acceptor.shouldEndWriting)
        acceptor.noteWritten(3)
        #expect(acceptor.shouldEndWriting)
        #expect(!acceptor.isDone)
        acceptor.end()
        for message in acceptor.messages() { try opener.receive(message) }
        #expect(opener.isDone && acceptor.isDone)
    }

    /// The side that is done first closes the channel, while the other still writes to a slow TCP connection.
    @Test func aChannelIsNeededUntilBothDirectionsHaveEnded() throws {
        var opener = try ForwardFlow(opening: "x:1", windowBytes: 0)
        var acceptor = ForwardFlow(windowBytes: 0)
        #expect(opener.read([1, 2, 3]) == 3)
        opener.end()
        for message in opener.messages() { try acceptor.receive(message) }
        acceptor.accept()
        #expect(opener.needsChannel && acceptor.needsChannel)
        acceptor.end()
        #expect(acceptor.needsChannel)
        for message in acceptor.messages() { try opener.receive(message) }
        #expect(!opener.needsChannel && opener.isDone)
        #expect(!acceptor.needsChannel && !acceptor.isDone)
        #expect(acceptor.takeReceived() == [1, 2, 3])
        acceptor.noteWritten(3)
        #expect(acceptor.isDone)
    }

    @Test func aRefusalSaysWhy() throws {
        var opener = try ForwardFlow(opening: "x:1", windowBytes: 0)
        #expect(opener.read([1]) == 1)
        var acceptor = ForwardFlow(windowBytes: 0)
        for message in opener.messages() { try acceptor.receive(message) }
        let refusal = ForwardRefusal(reason: .refused, explanation: "nothing listens at x:1")
        acceptor.refuse(refusal)
        #expect(!acceptor.isDone)
        // What was under way when the refusal was said is no offence.
        #expect(opener.read([2]) == 1)
        for message in opener.messages() { try acceptor.receive(message) }
        for message in acceptor.messages() { try opener.receive(message) }
        #expect(opener.phase == .refused(refusal))
        #expect(opener.isDone && acceptor.isDone)
        #expect(opener.readableBytes == 0)
    }

    @Test func manySmallMessagesCostNoMoreThanTheirBytes() throws {
        var acceptor = ForwardFlow(windowBytes: 0)
        try acceptor.receive([1, 0, 0, 0, 0] + "x:1".utf8)
        for _ in 0..<ForwardLimits.earlyBytes { try acceptor.receive([4, 7]) }
        acceptor.accept()
        #expect(acceptor.takeReceived()?.count == ForwardLimits.earlyBytes)
    }

    @Test func whoSendsMoreThanAllowedIsFound() throws {
        var acceptor = ForwardFlow(windowBytes: 0)
        try acceptor.receive([1, 0, 0, 0, 0] + "x:1".utf8)
        try acceptor.receive([4] + [UInt8](repeating: 0, count: ForwardLimits.earlyBytes))
        #expect(throws: ForwardFlowError.beyondWindow) { try acceptor.receive([4, 0]) }
        acceptor.accept()
        let rest = ForwardLimits.leastWindowBytes - ForwardLimits.earlyBytes
        try acceptor.receive([4] + [UInt8](repeating: 0, count: rest))
        #expect(throws: ForwardFlowError.beyondWindow) { try acceptor.receive([4, 0]) }
        #expect(throws: ForwardFlowError.beyondWindow) { try acceptor.receive([5, 0xFF, 0xFF, 0xFF, 0xFF]) }
        try acceptor.receive([6])
        #expect(throws: ForwardFlowError.unexpected) { try acceptor.receive([6]) }
    }

    @Test(arguments: [
        [] as [UInt8], [0], [7], [1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1, 0xFF], [2, 0, 0, 0], [3], [4], [5],
        [5, 0, 0, 0, 0],
        [6, 0],
        [1, 0, 0, 0, 1] + [UInt8](repeating: 0x61, count: 260),
    ])
    func whatIsNoMessageIsRefused(message: [UInt8]) throws {
        var flow = ForwardFlow(windowBytes: 0)
        #expect(throws: ForwardFlowError.malformed) { try flow.receive(message) }
        #expect(throws: ForwardFlowError.targetLength(0)) { try ForwardFlow(opening: "", windowBytes: 0) }
    }

    @Test func windowsShrinkWithTheNumberOfConnections() {
        #expect(ForwardLimits.windowBytes(besideConnections: 0) == ForwardLimits.greatestWindowBytes)
        let all = (0..<256).reduce(0) { $0 + ForwardLimits.windowBytes(besideConnections: $1) }
        #expect(all < 160 * 1_048_576)
    }

    @Test func mutatedMessagesDoNoHarm() throws {
        var random = SeededGenerator(for: "forward")
        for _ in 0..<fuzzRounds(2_000) {
            var flow = ForwardFlow(windowBytes: 0)
            if Bool.random(using: &random) { flow = try ForwardFlow(opening: "x:1", windowBytes: 0) }
            for _ in 0..<12 {
                let messages: [[UInt8]] =
                    [[1, 0, 0, 1, 0, 0x78], [2, 0, 1, 0, 0], [3, 1, 0x78], [4, 1, 2, 3], [5, 0, 0, 9, 0], [6]]
                var message = messages.randomElement(using: &random) ?? []
                if Bool.random(using: &random) { mutate(&message, using: &random) }
                guard (try? flow.receive(message)) != nil else { break }
                switch Int.random(in: 0..<5, using: &random) {
                case 0: flow.accept()
                case 1: _ = flow.read(message)
                case 2: flow.noteWritten(flow.takeReceived()?.count ?? 0)
                case 3: flow.end()
                default: _ = flow.messages()
                }
                #expect(flow.heldBytes <= ForwardLimits.leastWindowBytes)
            }
        }
    }
}

/// A flow between a TCP connection and a channel, both of which are slow at times.
private struct End {
    var flow: ForwardFlow
    let source: [UInt8]
    var came: [UInt8] = []
    private var given = 0
    private var unwritten = 0

    init(_ flow: ForwardFlow, bytes: Int, seed: Int) {
        self.flow = flow
        source = pattern(bytes, seed: seed)
    }

    mutating func work(using random: inout SeededGenerator) {
        if Bool.random(using: &random) {
            let end = min(source.count, given + .random(in: 0...40_000, using: &random))
            given += flow.read(Array(source[given..<end]))
            if given == source.count { flow.end() }
        }
        if Int.random(in: 0..<3, using: &random) == 0, let bytes = flow.takeReceived() {
            came += bytes
            unwritten += bytes.count
        }
        let written = Int.random(in: 0...unwritten, using: &random)
        flow.noteWritten(written)
        unwritten -= written
    }

    /// Gives each the other's messages.
    mutating func exchange(with other: inout End, using random: inout SeededGenerator) throws {
        for message in flow.messages(.random(in: 0...3, using: &random)) { try other.flow.receive(message) }
        for message in other.flow.messages(.random(in: 0...3, using: &random)) { try flow.receive(message) }
    }
}

extension ForwardFlow {
    mutating func receive(_ message: [UInt8]) throws(ForwardFlowError) {
        var failure: ForwardFlowError?
        message.withUnsafeBytes { bytes in
            do throws(ForwardFlowError) { try receive(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    mutating func read(_ bytes: [UInt8]) -> Int { bytes.withUnsafeBytes { read($0) } }

    /// What waits for a channel that takes so many messages.
    mutating func messages(_ limit: Int = .max) -> [[UInt8]] {
        var messages: [[UInt8]] = []
        _ = sendWaiting { bytes in
            guard messages.count < limit else { return .wouldBlock }
            messages.append([UInt8](bytes))
            return .sent
        }
        return messages
    }
}

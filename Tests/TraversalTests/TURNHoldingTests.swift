import OpenSSLCrypto
import STUN
import TURN
import TestSupport
import Testing
import Traversal

/// What a client does with data and wishes before the server has agreed to them, and after it has not.
@Suite struct TURNHoldingTests {
    private static let peer = Endpoint("9.9.9.10", 5_000)
    private static let other = Endpoint("9.9.9.11", 5_000)
    /// The server relays to no loopback address.
    private static let forbidden = Endpoint("127.0.0.1", 5_000)

    /// A world whose server's answers wait until they are let go.
    private final class Answers {
        private var held: [[UInt8]] = []
        private let world: TURNWorld

        init(_ world: TURNWorld) {
            self.world = world
            world.onAnswer = { [unowned self] in
                held.append($0)
                return nil
            }
        }

        func letGo() {
            world.onAnswer = { $0 }
            for answer in held { world.deliver(answer) }
        }
    }

    private func texts(_ world: TURNWorld) -> [String] {
        world.atPeers.map { String(decoding: $0.bytes, as: UTF8.self) }
    }

    @Test func theNewestDatagramsOfEachPeerWaitForItsPermission() throws {
        let world = try TURNWorld()
        world.start()
        let answers = Answers(world)
        for number in 0..<6 { #expect(world.send("a\(number)", to: Self.peer) == .awaitsPermission) }
        #expect(world.send("b0", to: Self.other) == .awaitsPermission)
        #expect(world.atPeers.isEmpty)
        answers.letGo()
        #expect(texts(world) == ["a2", "a3", "a4", "a5", "b0"])
        #expect(world.send("a6", to: Self.peer) == .sent)
    }

    @Test func aChannelThatPermitsAPeerLetsGoWhatWaitedForIt() throws {
        let world = try TURNWorld()
        world.start()
        let answers = Answers(world)
        world.perform { $0.bindChannel(to: Self.peer, now: $1, into: &$2) }
        world.onRequest = { bytes in bytes[1] == 8 ? nil : bytes }  // No CreatePermission arrives.
        #expect(world.send("first", to: Self.peer) == .awaitsPermission)
        answers.letGo()
        #expect(texts(world) == ["first"])
        #expect(world.channelDataSent == 1)
    }

    @Test func whatHasWaitedTooLongIsNotSent() throws {
        let world = try TURNWorld()
        world.start()
        world.onRequest = { _ in nil }
        world.send("old", to: Self.peer)
        world.advance(seconds: 2)
        world.send("new", to: Self.peer)
        world.onRequest = { $0 }
        world.advance(seconds: 2)
        #expect(texts(world) == ["new"])
    }

    @Test func whatWaitsIsBoundedWhateverIsSent() throws {
        let world = try TURNWorld()
        world.start()
        let answers = Answers(world)
        for number in 0..<120 as Range<UInt16> {
            for port in 1...8 as ClosedRange<UInt16> {
                let text = String(repeating: "x", count: 1_000)
                world.send(text, to: Endpoint(address: IPAddress("9.9.9.\(number)"), port: port))
            }
        }
        answers.letGo()
        #expect(world.atPeers.reduce(0) { $0 + $1.bytes.count } == 65_000)
        #expect(world.atPeers.last?.peer == Endpoint("9.9.9.119", 8))
    }

    @Test func aRefusedPeerIsNotAskedForAgainForAMinute() throws {
        let world = try TURNWorld()
        world.start()
        func refusals() -> [TURNFailure.Reason] {
            world.events.compactMap {
                if case .refused(Self.forbidden.address, let why) = $0 { why.reason } else { nil }
            }
        }
        #expect(world.send("x", to: Self.forbidden) == .awaitsPermission)
        #expect(refusals() == [.forbidden])
        for _ in 0..<10 { #expect(world.send("x", to: Self.forbidden) == .refused) }
        #expect(refusals().count == 1)
        world.perform { $0.permit([Self.forbidden.address], now: $1, into: &$2) }
        #expect(refusals().count == 2)
        #expect(world.requests[.createPermission] == 1)
        world.advance(seconds: 61)
        #expect(world.send("x", to: Self.forbidden) == .awaitsPermission)
        #expect(world.requests[.createPermission] == 2)
        #expect(world.atPeers.isEmpty)
    }

    @Test func aForgottenPeerThatIsWantedAgainHasItsChannelAgain() throws {
        let world = try TURNWorld()
        world.start()
        world.perform { $0.bindChannel(to: Self.peer, now: $1, into: &$2) }
        world.perform { client, _, _ in client.forget(Self.peer.address) }
        // The server's permission lasts a while; nobody here wants what it lets through.
        world.peerSends("unwanted", from: Self.peer)
        #expect(world.received.isEmpty && world.client.ignored == 1)
        world.perform { $0.permit([Self.peer.address], now: $1, into: &$2) }
        world.peerSends("wanted", from: Self.peer)
        #expect(world.received.count == 1)
        for _ in 0..<40 {
            world.advance(seconds: 60)
            world.send("x", to: Self.peer)
        }
        #expect(world.atPeers.count == 40)
        #expect(world.channelDataSent == 40)
    }
}

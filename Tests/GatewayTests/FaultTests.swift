import NIOCore
import NIOEmbedded
import Signaling
import Testing

@testable import Gateway

/// Errors that nobody foresaw, put into the handlers of one connection of a room.
struct FaultTests {
    @Test func sg18_anErrorAtAMessageOfOneMemberEndsThatConnectionAlone() throws {
        let house = House()
        let (alice, bob, carol) = (try house.enter("alice"), try house.enter("bob"), try house.enter("carol"))
        carol.fault.breaksNextRead = true
        carol.say(#"{"type":"broadcast","roomId":"hall","data":"never heard"}"#)
        #expect(carol.fault.count == 1 && !carol.channel.isActive)
        try house.checkThatTheOthersGoOn(alice, bob)
        #expect(!bob.heard.contains { $0.contains("never heard") })
    }

    @Test func sg18_anErrorAtAMessageToOneMemberEndsThatConnectionAlone() throws {
        let house = House()
        let (alice, bob, carol) = (try house.enter("alice"), try house.enter("bob"), try house.enter("carol"))
        carol.fault.breaksNextWrite = true
        alice.say(#"{"type":"broadcast","roomId":"hall","data":"to all"}"#)
        #expect(carol.fault.count == 1 && !carol.channel.isActive)
        // It was on its way to several, and the others have it.
        #expect(bob.heard.contains { $0.contains("to all") })
        try house.checkThatTheOthersGoOn(alice, bob)
    }

    @Test func sg18_errorsInAllConnectionsButOneLeaveThatOneItsRoom() throws {
        let house = House()
        let alice = try house.enter("alice")
        for number in 0..<50 {
            let guest = try house.enter("guest\(number)")
            guest.fault.breaksNextRead = true
            guest.say(#"{"type":"ping"}"#)
            #expect(!guest.channel.isActive)
        }
        try house.checkThatTheOthersGoOn(alice, try house.enter("bob"))
    }
}

/// A hub with its connections, on one loop without sockets.
private final class House {
    private let loop = EmbeddedEventLoop()
    private let runner: NIOLoopBoundBox<HubRunner>
    private var lastID: UInt64 = 0

    init() {
        let hub = HubRunner(HubConfiguration(GatewayConfiguration()), loop: loop, directory: NoDirectory())
        runner = NIOLoopBoundBox.makeBoxSendingValue(hub, eventLoop: loop)
    }

    /// Somebody who has logged in, under his own name, in the room `hall`.
    func enter(_ user: String) throws -> Member {
        lastID += 1
        let grant = Grant(
            user: user,
            expiresAtWallMilliseconds: nil,
            iceServers: Array("[]".utf8),
            ttlSeconds: 3_600,
            checkedAtNanoseconds: NIODeadline.now().uptimeNanoseconds
        )
        let source = ClientSource(try SocketAddress(ipAddress: "127.0.0.1", port: 1))
        let opening = SignalingConnection.Opening(id: ConnectionID(lastID), source: source, grant: grant)
        let delegate = SignalingConnection(opening, home: loop, hubLoop: loop, runner: runner)
        let member = try Member(delegate, loop)
        member.say(#"{"type":"register","peerId":"\#(user)"}"#)
        member.say(#"{"type":"join-room","peerId":"\#(user)","roomId":"hall"}"#)
        #expect(member.heard.contains { $0.contains("room-joined") }, "\(member.heard)")
        return member
    }

    func checkThatTheOthersGoOn(_ first: Member, _ second: Member) throws {
        // What an ended connection leaves to be done is done.
        loop.run()
        let before = runner.value.socketCount
        #expect(before == 2)
        for (one, other, word) in [(first, second, "there"), (second, first, "back")] {
            one.say(#"{"type":"broadcast","roomId":"hall","data":"\#(word)"}"#)
            #expect(other.heard.contains { $0.contains(word) }, "\(other.heard)")
        }
        let late = try enter("late")
        #expect(first.heard.contains { $0.contains("peer-joined") && $0.contains("late") })
        first.say(#"{"type":"signal","from":"alice","to":"late","signal":"welcome to the hall"}"#)
        #expect(late.heard.contains { $0.contains("welcome to the hall") }, "\(first.heard)")
        #expect(first.channel.isActive && second.channel.isActive && runner.value.socketCount == before + 1)
    }
}

/// One connection as it is behind the upgrade, with a handler in it that fails when it is told to.
private final class Member {
    let channel: EmbeddedChannel
    let fault = FaultyHandler()
    private var texts: [String] = []

    init(_ delegate: SignalingConnection, _ loop: EmbeddedEventLoop) throws {
        channel = EmbeddedChannel(loop: loop)
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        let allowance = MessageAllowance(65_536, anteroom: 65_536)
        let decoder = ByteToMessageHandler(WebSocketDecoder(allowance))
        let handler = WebSocketHandler(delegate, fragments: GatewayLimits.fragments, allowance: allowance)
        try channel.pipeline.syncOperations.addHandlers([decoder, fault, handler])
    }

    func say(_ text: String) {
        // An error that nobody has taken comes out here.
        #expect(throws: Never.self) { try channel.writeInbound(ByteBuffer(bytes: frame(0x81, text))) }
    }

    /// The messages that have come.
    var heard: [String] {
        while var bytes = try? channel.readOutbound(as: ByteBuffer.self) {
            while let opcode = bytes.readInteger(as: UInt8.self), let short = bytes.readInteger(as: UInt8.self) {
                let length = short == 126 ? bytes.readInteger(as: UInt16.self).map(Int.init) : Int(short)
                guard let length, let payload = bytes.readString(length: length) else { break }
                if opcode == 0x81 { texts.append(payload) }
            }
        }
        return texts
    }
}

private final class FaultyHandler: ChannelDuplexHandler {
    typealias InboundIn = Any
    typealias OutboundIn = Any

    struct InjectedFault: Error {}

    var breaksNextRead = false
    var breaksNextWrite = false
    private(set) var count = 0

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard breaksNextRead else { return context.fireChannelRead(data) }
        breaksNextRead = false
        count += 1
        context.fireErrorCaught(InjectedFault())
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard breaksNextWrite else { return context.write(data, promise: promise) }
        breaksNextWrite = false
        count += 1
        promise?.fail(InjectedFault())
        context.fireErrorCaught(InjectedFault())
    }
}

/// Nobody is asked here: who comes has logged in.
private struct NoDirectory: GatewayDirectory {
    func login(_ login: GatewayLogin) async -> LoginOutcome { .unavailable }
    func iceServers(user: String, seconds: Int) async -> ICEServers? { nil }
    func stunServers() -> [String] { [] }
}

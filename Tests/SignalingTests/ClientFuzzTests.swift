import Foundation
import Testing

@testable import Signaling

/// A server that says anything.
@Suite struct ClientFuzzTests {
    /// `CLIENT_FUZZ=1000000` in the environment says how many messages, or `TURNPIKE_FUZZ_ROUNDS` for all such tests.
    @Test func mutatedMessagesNeitherCrashNorFillTheClient() throws {
        let environment = ProcessInfo.processInfo.environment
        let wanted = environment["CLIENT_FUZZ"] ?? environment["TURNPIKE_FUZZ_ROUNDS"]
        let count = wanted.flatMap { Int($0) } ?? 100_000
        var dice = SeededGenerator(seed: 42)
        var bench = Bench()
        let corpus = Self.corpus.map { Array($0.utf8) }
        for _ in 0..<count {
            var text = corpus[Int.random(in: 0..<corpus.count, using: &dice)]
            for _ in 0..<Int.random(in: 0..<4, using: &dice) { mutate(&text, &dice) }
            bench.hear(String(decoding: text, as: UTF8.self), &dice)
            if !bench.isBounded {
                Issue.record("it grows: \(bench.session.outbox.sent.count)")
                return
            }
        }
        #expect(bench.session.counters.messagesReceived > UInt64(count) / 4)
        #expect(bench.session.counters.malformed > 0 && bench.session.counters.unknownTypes > 0)
        #expect(bench.session.counters.sessionsOpened > 10 && bench.delivered > count / 20)
    }

    @Test(arguments: [
        "", "[]", "7", "{", #"{"type":7}"#, #"{"a":1}"#, #"{"type":"offer"}"#,
        #"{"type":"offer","from":"","to":"a","payload":1}"#,
        #"{"type":"broadcast","from":"a"}"#, #"{"type":"pong","type":"pong"}"#,
        #"{"type":"ice-servers","iceServers":{}}"#, "{\"type\":\"signal\",\"payload\":\"\u{1}\"}",
    ])
    func whatIsNoMessageIsCountedAndPassedOver(text: String) {
        var dice = SeededGenerator(seed: 1)
        var bench = Bench()
        bench.hear(Self.welcome, &dice)
        bench.hear(text, &dice)
        #expect(bench.session.counters.malformed == 1 && bench.session.state == .open)
        bench.hear(#"{"type":"peer-left","peerId":"b","roomId":"r"}"#, &dice)
        #expect(bench.last == .deliver(.peerLeft(peerID: "b", roomID: "r")))
        #expect(bench.session.received == 2, "the server counts them, too")
    }

    @Test func unknownTypesAndMembersArePassedOver() {
        var dice = SeededGenerator(seed: 1)
        var bench = Bench()
        bench.hear(Self.welcome, &dice)
        bench.hear(#"{"type":"news","from":"the future"}"#, &dice)
        #expect(bench.session.counters.unknownTypes == 1 && bench.session.counters.malformed == 0)
        bench.hear(#"{"type":"peer-left","peerId":"b","roomId":"r","why":[null]}"#, &dice)
        #expect(bench.last == .deliver(.peerLeft(peerID: "b", roomID: "r")))
    }

    @Test func aServerThatTalksOnlyNonsenseIsLeftForAWhile() {
        var dice = SeededGenerator(seed: 1)
        var bench = Bench()
        bench.hear(Self.welcome, &dice)
        for _ in 0..<SignalingClientLimits.malformedPerConnectionMax { bench.say("?") }
        guard case .waiting = bench.session.state else {
            Issue.record("\(bench.session.state)")
            return
        }
        #expect(bench.session.phaseEndsAt >= bench.now + 30_000_000_000)
    }

    @Test func rostersAndPayloadsAreReadUpToWhatAServerSends() throws {
        var dice = SeededGenerator(seed: 1)
        // A payload as deep as a client's message may be, which stands twice; and one with as many values.
        let deep = String(repeating: "[", count: 31) + String(repeating: "]", count: 31)
        let wide = "[" + Array(repeating: "1", count: 16_300).joined(separator: ",") + "]"
        let object = "{" + (0..<1_000).map { "\"k\($0)\":1" }.joined(separator: ",") + "}"
        for payload in [deep, wide, object] {
            var bench = Bench()
            bench.hear(Self.welcome, &dice)
            bench.hear(#"{"type":"signal","from":"b","to":"a","signal":\#(payload),"payload":\#(payload)}"#, &dice)
            #expect(bench.session.counters.malformed == 0)
            guard case .deliver(.message(let message))? = bench.last else {
                Issue.record("not read")
                return
            }
            #expect(message.payload.description == payload)
        }
        let roster = (0..<999).map { #"{"peerId":"user\#($0)","metadata":{"a":1,"b":{"c":[\#($0)]}}}"# }
        let text = #"{"type":"room-joined","roomId":"r","peers":[\#(roster.joined(separator: ","))],"id":1}"#
        let peers = try #require(ServerMessage(Array(text.utf8))?.peers)
        #expect(peers.count == 999 && peers[998].metadata.value["b"]?["c"] == .array([.number(998)]))
        let tooDeep = String(repeating: "[", count: 60) + String(repeating: "]", count: 60)
        #expect(ServerMessage(Array(#"{"type":"signal","payload":\#(tooDeep)}"#.utf8)) == nil)
        let tooLong = String(repeating: " ", count: SignalingClientLimits.messageBytesMax)
        #expect(ServerMessage(Array((tooLong + #"{"type":"pong"}"#).utf8)) == nil)
    }

    @Test func aJSONValueIsReadAsFoundationReadsIt() throws {
        let texts = [
            #"{"a":[1,-2.5,1e3,true,false,null,"x\ty\u00e9\ud83d\ude00\\\"\/"],"b":{},"c":[[]],"":0}"#,
            #" [ 1 , { "k" : "v" } ] "#, "0", "-0.5e-3", #""""#, "1234567890123",
        ]
        for text in texts {
            let value = try JSONText(text).value
            let again = try JSONText(JSONText(value).description).value
            #expect(again == value)
            let options: JSONSerialization.ReadingOptions = [.fragmentsAllowed]
            let theirs = try JSONSerialization.jsonObject(with: Data(text.utf8), options: options) as? NSObject
            let ours = Data(JSONText(value).bytes)
            #expect(try JSONSerialization.jsonObject(with: ours, options: options) as? NSObject == theirs, "\(text)")
        }
    }

    private func mutate(_ text: inout [UInt8], _ dice: inout SeededGenerator) {
        guard !text.isEmpty else { return }
        let place = Int.random(in: 0..<text.count, using: &dice)
        switch Int.random(in: 0..<6, using: &dice) {
        case 0: text[place] = UInt8.random(in: .min ... .max, using: &dice)
        case 1: text.remove(at: place)
        case 2: text.insert(contentsOf: Array("{}[]\",:0e-\\u".utf8).shuffled(using: &dice).prefix(2), at: place)
        case 3: text.removeSubrange(place..<min(text.count, place + 8))
        case 4: text.insert(contentsOf: text[place..<min(text.count, place + 12)], at: place)
        default:
            // A number of another size.
            let digits = ["9", "-1", "99999999999999999999", "1e308", "0.5"]
            text.insert(contentsOf: Array(digits[Int.random(in: 0..<5, using: &dice)].utf8), at: place)
        }
    }

    static let welcome =
        #"{"type":"welcome","sessionId":"s","resumeToken":"s.1","user":"a","resumed":false,"#
        + #""iceServers":[{"urls":["turn:t"]}],"ttl":3600,"serverTime":1800000000000,"#
        + #""limits":{"messagesPerSecond":50,"burst":100,"peersPerConnection":32}}"#
    private static let corpus = [
        welcome,
        welcome.replacing("\"resumed\":false", with: "\"resumed\":true,\"received\":3,\"missed\":1,\"peers\":[]"),
        #"{"type":"registered","peerId":"a","timestamp":1,"id":2}"#,
        #"{"type":"room-joined","roomId":"r","peers":[{"peerId":"b","metadata":{"x":[1,{}]}}],"timestamp":1,"id":3}"#,
        #"{"type":"offer","from":"b","to":"a","offer":{"sdp":"v=0"},"payload":{"sdp":"v=0"},"timestamp":1}"#,
        #"{"type":"broadcast","from":"b","roomId":"r","data":[1,2],"timestamp":1}"#,
        #"{"type":"peer-joined","peerId":"b","roomId":"r","metadata":{"a":"\u00e9"},"timestamp":1}"#,
        #"{"type":"peer","peerId":"b","online":true,"metadata":{},"id":4}"#,
        #"{"type":"ice-servers","iceServers":[{"urls":"turn:t","username":"u","credential":"c"}],"ttl":600,"id":5}"#,
        #"{"type":"time","t0":1,"serverTime":1800000000000,"id":6}"#, #"{"type":"pong","timestamp":1,"id":7}"#,
        #"{"type":"error","code":"not-found","error":"Peer b not found","originalType":"offer","id":8}"#,
        #"{"type":"error","code":"rate-limited","error":"Too many messages","retryAfterMs":120,"id":9}"#,
        #"{"type":"error","code":"unauthenticated","error":"The credentials have expired"}"#,
        #"{"type":"server-shutdown","message":"m","reconnectAfterMs":2710,"timestamp":1}"#, #"{"type":"news"}"#,
    ]
}

/// A session without a hub: what it hears is made up.
private struct Bench {
    var session: SignalingSession
    var now: UInt64 = 1_000_000_000_000
    var last: SignalingAction?
    var delivered = 0
    private var socket: UInt64 = 0

    init() {
        var generator = SeededGenerator(seed: 3)
        let credentials = SignalingCredentials.password(username: "a", password: "p")
        session = SignalingSession(SignalingConfiguration(credentials: credentials)) { generator.next() }
        act { $0.start(now: $1, into: &$2) }
    }

    var isBounded: Bool {
        session.outbox.sent.count <= 700 && session.outbox.waiting.count <= 700 && session.registrations.count <= 32
    }

    /// Says it as the server, having opened what is to be opened; and the client does this or that.
    mutating func hear(_ text: String, _ dice: inout SeededGenerator) {
        if session.state == .waiting, let deadline = session.nextDeadline { pass(to: deadline) }
        if case .refused = session.state {
            let password = "\(Int.random(in: 0..<1_000_000, using: &dice))"
            act { $0.setCredentials(.password(username: "a", password: password), now: $1, into: &$2) }
        }
        let current = socket
        if case .connecting = session.phase { act { $0.opened(socket: current, now: $1, into: &$2) } }
        say(text)
        let choice = Int.random(in: 0..<40, using: &dice)
        // The numbers of requests are those that the corpus has, until they are past.
        if choice < 6 { ask(choice) }
        if choice == 7 { pass(to: now + 1_000_000_000) }
        if choice == 8 { act { $0.closed(socket: current, code: 1006, now: $1, into: &$2) } }
    }

    mutating func say(_ text: String) {
        let current = socket
        act { $0.received(text, socket: current, now: $1, into: &$2) }
    }

    private mutating func ask(_ choice: Int) {
        act { session, now, actions in
            switch choice {
            case 0: _ = try? session.register("a/\(now % 40)", now: now, into: &actions)
            case 1:
                _ = try? session.joinRoom(
                    "r\(now % 40)",
                    as: session.wantedPeerIDs.first ?? "",
                    now: now,
                    into: &actions
                )
            case 2: _ = try? session.lookup("b", now: now, into: &actions)
            case 3: _ = try? session.requestICEServers(now: now, into: &actions)
            case 4: _ = try? session.send(.offer, .emptyObject, from: "a", to: "b", now: now, into: &actions)
            default: _ = try? session.unregister("a/\(now % 40)", now: now, into: &actions)
            }
        }
    }

    private mutating func pass(to time: UInt64) {
        now = max(now, time)
        act { $0.advance(now: $1, into: &$2) }
    }

    private mutating func act(_ step: (inout SignalingSession, UInt64, inout [SignalingAction]) -> Void) {
        var actions: [SignalingAction] = []
        now += 1_000_003
        step(&session, now, &actions)
        for action in actions {
            if case .connect(let number, _) = action { socket = number }
            if case .deliver = action { delivered += 1 }
        }
        last = actions.last { if case .deliver = $0 { true } else { false } } ?? actions.last
    }
}

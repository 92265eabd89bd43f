import Foundation
import Testing

@testable import Signaling

/// The protocol as a client sees it.
@Suite struct MessageTests {
    @Test func aWelcomeHasEveryFieldOfTheContract() throws {
        let welcome = try Lab().client("alice").welcome
        let fields = [
            "sessionId", "resumeToken", "user", "iceServers", "ttl", "serverTime", "limits", "message", "timestamp",
        ]
        for field in fields { #expect(welcome[field] != nil, "\(field)") }
        #expect(welcome["user"] as? String == "alice")
        #expect(welcome["message"] as? String == "Connected to signaling server")
        #expect(welcome["resumed"] as? Bool == false)
        #expect((welcome["iceServers"] as? [[String: Any]])?.first?["username"] as? String == "alice")
        let token = try #require(welcome["resumeToken"] as? String)
        #expect(token.count >= 32, "128 bits and more")
    }

    /// The flow of the original's clients: they wait for nothing and authenticate at the upgrade.
    @Test func aClientOfTheOriginalWorksOnceItHasAuthenticated() throws {
        let lab = Lab()
        let alice = lab.socket(grant: lab.grant("alice"))
        let bob = lab.socket(grant: lab.grant("bob"))
        #expect(alice.take("welcome") != nil && bob.take("welcome") != nil)
        alice.send(["type": "register", "peerId": "alice", "metadata": ["client": "app"]])
        #expect(alice.take("registered")?["peerId"] as? String == "alice")
        bob.send(["type": "register", "peerId": "bob"])
        alice.send(["type": "join-room", "peerId": "alice", "roomId": "lobby"])
        #expect((alice.take("room-joined")?["peers"] as? [Any])?.isEmpty == true)
        bob.send(["type": "join-room", "peerId": "bob", "roomId": "lobby"])
        let peers = try #require(bob.take("room-joined")?["peers"] as? [[String: Any]])
        #expect(peers.count == 1 && peers[0]["peerId"] as? String == "alice")
        #expect((peers[0]["metadata"] as? [String: String]) == ["client": "app"])
        let joined = try #require(alice.take("peer-joined"))
        #expect(joined["peerId"] as? String == "bob" && joined["roomId"] as? String == "lobby")

        bob.send(["type": "offer", "from": "bob", "to": "alice", "offer": ["type": "offer", "sdp": "v=0\r\n"]])
        let offer = try #require(alice.take("offer"))
        #expect(offer["from"] as? String == "bob" && offer["to"] as? String == "alice")
        #expect((offer["offer"] as? [String: String])?["sdp"] == "v=0\r\n")
        #expect((offer["payload"] as? [String: String])?["sdp"] == "v=0\r\n")
        #expect(offer["timestamp"] as? Int == 1_800_000_000_000)
        alice.send(["type": "answer", "from": "alice", "to": "bob", "answer": ["sdp": "a"]])
        #expect(bob.take("answer")?["answer"] != nil)
        alice.send(["type": "ice-candidate", "from": "alice", "to": "bob", "candidate": ["candidate": "x"]])
        #expect(bob.take("ice-candidate")?["candidate"] != nil)
        bob.send(["type": "signal", "to": "alice", "signal": "anything"])
        #expect(alice.take("signal")?["signal"] as? String == "anything")
        bob.send(["type": "broadcast", "from": "bob", "roomId": "lobby", "data": ["n": 1]])
        let broadcast = try #require(alice.take("broadcast"))
        #expect(broadcast["from"] as? String == "bob" && broadcast["roomId"] as? String == "lobby")
        #expect(bob.take("broadcast") == nil, "nobody hears himself")
        alice.send(["type": "ping", "peerId": "alice"])
        #expect(alice.take("pong")?["timestamp"] != nil)
        bob.send(["type": "leave-room", "peerId": "bob", "roomId": "lobby"])
        #expect(bob.take("room-left")?["roomId"] as? String == "lobby")
        #expect(alice.take("peer-left")?["peerId"] as? String == "bob")
    }

    @Test(arguments: [
        (#"{"type":"register"}"#, "bad-message: peerId is required"),
        (#"{"type":"register","peerId":""}"#, "bad-message: peerId is required"),
        (#"{"type":"register","peerId":7}"#, "bad-message: peerId must be a string"),
        (#"{"type":"unregister"}"#, "bad-message: peerId is required"),
        (#"{"type":"unregister","peerId":"alice/2"}"#, "not-found: Peer not registered"),
        (#"{"type":"join-room","peerId":"alice"}"#, "bad-message: peerId and roomId are required"),
        (#"{"type":"join-room","peerId":"alice/2","roomId":"r"}"#, "not-found: Peer not registered"),
        (#"{"type":"leave-room","roomId":"r"}"#, "bad-message: peerId and roomId are required"),
        (#"{"type":"offer","to":"bob"}"#, "bad-message: from, to, and offer are required"),
        (#"{"type":"answer","answer":1}"#, "bad-message: from, to, and answer are required"),
        (#"{"type":"ice-candidate","to":"x","candidate":null}"#, "bad-message: from, to, and candidate are required"),
        (#"{"type":"signal"}"#, "bad-message: from, to, and signal are required"),
        (#"{"type":"signal","to":"nobody","signal":1}"#, "not-found: Peer nobody not found"),
        (#"{"type":"broadcast","roomId":"r"}"#, "bad-message: from, roomId, and data are required"),
        (#"{"type":"broadcast","roomId":"r","data":1}"#, "not-found: Room r not found"),
        (#"{"type":"nonsense"}"#, "bad-type: Unknown message type"),
        (#"{"a":1}"#, "bad-type: Unknown message type"),
        (#"{"type":"ping","id":{}}"#, "bad-message: id must be a string or a number of at most 128 bytes"),
        (#"{"type":"time","t0":"x"}"#, "bad-message: t0 must be a number"),
        (#"{"type":"ice-servers","ttl":-1}"#, "bad-message: ttl must be a whole number, 0 or more"),
        (#"{"type":"ice-servers","ttl":0}"#, "bad-message: ttl must be 1 or more, in seconds"),
        (#"{"type":"hello","username":"a","password":"b"}"#, "bad-message: This connection is authenticated already"),
    ])
    func aMistakeGetsTheTextOfTheOriginal(message: String, refusal: String) throws {
        let alice = try Lab().peer("alice")
        alice.send(message)
        #expect(alice.refusal() == refusal)
        #expect(alice.closedWith == nil)
    }

    @Test func anErrorNamesTheMessageThatItIsAbout() throws {
        let alice = try Lab().peer("alice")
        alice.send(#"{"type":"signal","to":"nobody","signal":1,"id":"r-\u00e9"}"#)
        #expect(
            alice.takeTexts() == [
                #"{"type":"error","code":"not-found","error":"Peer nobody not found","originalType":"signal","#
                    + #""id":"r-\u00e9"}"#
            ]
        )
        alice.send(#"{"type":"nonsense","id":-1.5e3}"#)
        #expect(alice.takeTexts().first?.hasSuffix(#""originalType":"nonsense","id":-1.5e3}"#) == true)
    }

    @Test(arguments: [
        (#"{"type":"register","peerId":"alice/b""#, "registered"),
        (#"{"type":"unregister","peerId":"alice""#, "unregistered"),
        (#"{"type":"join-room","peerId":"alice","roomId":"r""#, "room-joined"),
        (#"{"type":"leave-room","peerId":"alice","roomId":"r""#, "room-left"),
        (#"{"type":"lookup","peerId":"x""#, "peer"), (#"{"type":"ice-servers""#, "ice-servers"),
        (#"{"type":"time","t0":12.5"#, "time"), (#"{"type":"ping""#, "pong"),
    ])
    func everyReplyEchoesTheID(request: String, reply: String) throws {
        let alice = try Lab().peer("alice")
        alice.send(request + #","id":42}"#)
        #expect(alice.take(reply)?["id"] as? Int == 42)
    }

    @Test func timeIsToldWithWhatTheClientSent() throws {
        let alice = try Lab().client("alice")
        alice.send(#"{"type":"time","t0":1799999999999.25}"#)
        #expect(
            alice.takeTexts() == [#"{"type":"time","t0":1799999999999.25,"serverTime":1800000000000}"#]
        )
    }

    @Test func aLookupTellsWhoIsThere() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.client("bob")
        bob.send(["type": "register", "peerId": "bob/phone", "metadata": ["os": "x"]])
        alice.send(["type": "lookup", "peerId": "bob/phone"])
        let found = try #require(alice.take("peer"))
        #expect(found["online"] as? Bool == true)
        #expect((found["metadata"] as? [String: String]) == ["os": "x"])
        bob.send(["type": "unregister", "peerId": "bob/phone"])
        alice.send(["type": "lookup", "peerId": "bob/phone"])
        #expect(alice.take("peer")?["online"] as? Bool == false)
    }

    @Test func peersOfOneConnectionSpeakForThemselves() throws {
        let lab = Lab()
        let bob = try lab.peer("bob")
        let alice = try lab.peer("alice/1")
        alice.send(["type": "register", "peerId": "alice/2"])
        alice.send(["type": "signal", "to": "bob", "signal": 1])
        #expect(alice.refusal() == "bad-message: from, to, and signal are required")
        alice.send(["type": "signal", "from": "alice/2", "to": "bob", "signal": 1])
        #expect(bob.take("signal")?["from"] as? String == "alice/2")
        alice.send(#"{"type":"signal","from":"alice\/1","to":"b\u006fb","signal":1}"#)
        #expect(bob.take("signal")?["from"] as? String == "alice/1")
    }

    @Test func aPayloadIsCarriedByteForByte() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        let payload = #"{ "sdp" : "v=0\r\n\u00e9é\ud83d\ude00" , "n":[1.50,-0,1e2, true ] ,"z":{}}"#
        alice.send(#" {"signal": \#(payload) , "to":"bob","type":"signal"} "#)
        #expect(
            bob.takeTexts().last
                == #"{"type":"signal","from":"alice","to":"bob","signal":\#(payload),"payload":\#(payload),"#
                + #""timestamp":1800000000000}"#
        )
    }

    @Test func registeringAgainReplacesTheMetadata() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        alice.send(["type": "register", "peerId": "alice", "metadata": ["v": 2]])
        #expect(alice.take("registered") != nil)
        bob.send(["type": "lookup", "peerId": "alice"])
        #expect((bob.take("peer")?["metadata"] as? [String: Int]) == ["v": 2])
        #expect(lab.hub.statistics.peers == 2)
    }
}

import Foundation
import Testing

@testable import Signaling

/// Random scripts of many clients, and what has to hold after every step of them.
@Suite struct HubFuzzTests {
    @Test(arguments: 0..<8)
    func aScriptOfManyClientsBreaksNoRule(seed: UInt64) throws {
        var script = Script(seed: seed)
        for step in 0..<1_200 {
            script.step()
            let faults = script.faults()
            #expect(faults.isEmpty, "seed \(seed), step \(step): \(faults)")
            if !faults.isEmpty { return }
        }
        #expect(script.delivered > 20, "seed \(seed): the script reached nobody")
        script.endAll()
        let left = script.lab.hub.statistics
        #expect(
            left.connections == 0 && left.sessions == 0 && left.peers == 0 && left.rooms == 0,
            "seed \(seed): \(left)"
        )
        #expect(
            left.users == 0 && left.replayBytes == 0 && left.unauthenticatedConnections == 0,
            "seed \(seed): \(left)"
        )
        #expect(script.lab.hub.addresses.isEmpty && script.lab.hub.tickets.isEmpty, "seed \(seed)")
        #expect(script.lab.hub.nextDeadline == nil, "seed \(seed)")
        #expect(script.survivors == 0, "seed \(seed): sessions hold each other")
    }

    @Test func theSameScriptHasTheSameResult() {
        func run() -> [String] {
            var script = Script(seed: 99)
            for _ in 0..<500 { script.step() }
            return script.lab.clients.keys.sorted { $0.rawValue < $1.rawValue }
                .flatMap { script.lab.clients[$0]?.takeTexts() ?? [] }
        }
        let first = run()
        #expect(first.count > 300 && first == run())
    }
}

private struct WeakSession {
    weak var session: Session?
}

private struct Script {
    let lab: Lab
    private var open: [Client] = []
    private var tokens: [(token: String, received: UInt64, user: String)] = []
    /// Which payload may be seen by which users, and who sent it.
    private var audience: [Int: (users: Set<String>, from: String)] = [:]
    private var seen: [ObjectIdentifier: Set<Int>] = [:]
    private var number = 0
    private(set) var delivered = 0
    private var everySession: [WeakSession] = []
    private let users = ["ann", "bea", "cid", "dan"]
    private let rooms = ["r1", "r2", "r3"]

    init(seed: UInt64) {
        lab = Lab(seed: seed) {
            $0.messagesPerSecond = 200
            $0.connectionsPerUser = 6
            $0.resumeWindowSeconds = 5
            $0.peerTimeoutSeconds = 60
        }
    }

    mutating func step() {
        open.removeAll { $0.closedWith != nil }
        switch lab.random(0..<32) {
        case 0...2: connect()
        case 3: lab.advance(seconds: Double(lab.random(0..<4_000)) / 1_000)
        case 4: cut()
        case 5 where !tokens.isEmpty: resume()
        case 6: sometimes(30) { lab.perform { lab.hub.revoke(user: any(users), now: lab.now, into: &$0) } }
        case 7: with { client in client.answerProbes() }
        case 8:
            with { client in
                sometimes(8) { lab.perform { lab.hub.slowConsumer(client.id, now: lab.now, into: &$0) } }
            }
        case 9: with { client in client.send(garbage()) }
        case 10...13: with { client in client.send(["type": "register", "peerId": mostlyOf(client)]) }
        case 14...17:
            with { client in client.send(["type": "join-room", "peerId": own(client), "roomId": any(rooms)]) }
        case 18: with { client in client.send(["type": "leave-room", "peerId": own(client), "roomId": any(rooms)]) }
        case 19: with { client in sometimes(3) { client.send(["type": "unregister", "peerId": own(client)]) } }
        case 20:
            with { client in
                client.send(["type": any(["lookup", "ping", "time", "ice-servers"]), "peerId": any(peerIDs)])
            }
        default: sendSomething()
        }
        read()
        everySession += lab.hub.sessions.values.prefix(1).map(WeakSession.init)
    }

    /// Sessions that nothing should hold on to.
    var survivors: Int { everySession.count { $0.session != nil } }

    /// Everyone goes, and time passes.
    mutating func endAll() {
        for client in open where client.closedWith == nil { client.end(.lost(deliveredThrough: nil)) }
        lab.advance(seconds: 200)
    }

    func faults() -> [String] {
        let hub = lab.hub
        var faults: [String] = []
        func check(_ holds: Bool, _ text: String) { if !holds { faults.append(text) } }
        check(
            hub.peers.count == hub.sessions.values.reduce(0) { $0 + $1.peers.count },
            "peers are not those of sessions"
        )
        for (id, peer) in hub.peers {
            check(peer.id == id && hub.sessions[peer.session.id] === peer.session, "peer \(id) has no session")
            check(Name.isPeerID(id, of: peer.session.user.name), "peer \(id) is not its user's")
            for room in peer.rooms { check(room.members.contains { $0 === peer }, "\(id) is not in its room") }
        }
        for (id, room) in hub.rooms {
            check(!room.members.isEmpty && room.members.allSatisfy { hub.peers[$0.id] === $0 }, "room \(id) has ghosts")
            check(room.rosterBytes == room.members.reduce(0) { $0 + $1.rosterBytes }, "room \(id) counts wrong")
        }
        for user in hub.users.values {
            let memberships = user.sessions.reduce(0) { $0 + $1.peers.reduce(0) { $0 + $1.rooms.count } }
            check(user.memberships == memberships, "\(user.name) has \(user.memberships) of \(memberships) rooms")
            check(user.sessions.count <= 6, "\(user.name) has \(user.sessions.count) sessions")
        }
        let attached = hub.connections.values.count { $0.session != nil }
        check(hub.unauthenticatedConnections == hub.connections.count - attached, "the anteroom counts wrong")
        check(hub.sessions.values.count { $0.connection != nil } == attached, "sessions and connections differ")
        check(hub.replayBytes == hub.sessions.values.reduce(0) { $0 + $1.replay.byteCount }, "replay counts wrong")
        check(hub.doomed.isEmpty, "the doomed live")
        for address in hub.addresses.values {
            let count = hub.connections.values.count { $0.address === address }
            check(address.connections == count, "an address has \(address.connections) of \(count) connections")
        }
        return faults
    }

    // MARK: What clients do

    private var peerIDs: [String] { users.flatMap { [$0, "\($0)/1", "\($0)/2"] } }

    private mutating func connect() {
        let user = any(users)
        let client = lab.socket(address: UInt32(lab.random(0..<5)))
        client.send(["type": "hello", "username": user, "password": lab.random(0..<40) == 0 ? "no" : "pw-\(user)"])
        open.append(client)
    }

    private mutating func cut() {
        guard !open.isEmpty else { return }
        let client = open[lab.random(0..<open.count)]
        read()
        if let token = client.newestWelcome?["resumeToken"] as? String,
            let user = client.newestWelcome?["user"] as? String
        {
            tokens.append((token, client.received, user))
        }
        if lab.random(0..<4) == 0 {
            client.isReading = false
        } else {
            client.end(lab.random(0..<3) == 0 ? .goodbye : .lost(deliveredThrough: nil))
        }
        open.removeAll { $0 === client }
    }

    private mutating func resume() {
        let (token, received, user) = tokens.remove(at: lab.random(0..<tokens.count))
        let client = lab.socket()
        var hello: [String: Any] = ["type": "hello", "resume": token, "received": Int(received)]
        if lab.random(0..<2) == 0 {
            hello["username"] = user
            hello["password"] = "pw-\(user)"
        }
        client.send(hello)
        open.append(client)
    }

    private mutating func sendSomething() {
        guard !open.isEmpty else { return }
        let client = open[lab.random(0..<open.count)]
        guard let session = lab.hub.connections[client.id]?.session else { return }
        number += 1
        let from = lab.random(0..<9) == 0 ? any(peerIDs) : own(client)
        if lab.random(0..<2) == 0 {
            let to = any(peerIDs)
            audience[number] = ([String(to.prefix { $0 != "/" })], from)
            client.send(["type": "signal", "from": from, "to": to, "signal": number])
        } else {
            let room = any(rooms)
            let members = lab.hub.rooms[room]?.members.map(\.session.user.name) ?? []
            audience[number] = (session.peer(from)?.rooms.contains { $0.id == room } == true ? Set(members) : [], from)
            client.send(["type": "broadcast", "from": from, "roomId": room, "data": number])
        }
    }

    /// Everybody reads: nothing that is not for him, nothing under a false name, nothing twice.
    private mutating func read() {
        for client in lab.clients.values {
            for message in client.unseen() {
                guard let payload = (message["signal"] ?? message["data"]) as? Int, let sent = audience[payload] else {
                    continue
                }
                let user = client.newestWelcome?["user"] as? String ?? ""
                delivered += 1
                #expect(sent.users.contains(user), "\(payload) came to \(user)")
                #expect(sent.from == message["from"] as? String, "\(payload) came under a false name")
                let isNew = seen[ObjectIdentifier(client), default: []].insert(payload).inserted
                #expect(isNew, "\(payload) came twice")
            }
        }
    }

    private func mostlyOf(_ client: Client) -> String {
        guard lab.random(0..<5) > 0, let user = lab.hub.connections[client.id]?.session?.user.name else {
            return any(peerIDs)
        }
        return any([user, "\(user)/1", "\(user)/2"])
    }

    private func garbage() -> String {
        any(["{", "[]", #"{"type":7}"#, #"{"type":"offer","to":{}}"#, #"{"type":"join-room","peerId":"ann"}"#, "\u{0}"])
    }

    private func own(_ client: Client) -> String {
        lab.hub.connections[client.id]?.session?.peers.first?.id ?? any(peerIDs)
    }

    private func with(_ body: (Client) -> Void) {
        guard !open.isEmpty else { return }
        body(open[lab.random(0..<open.count)])
    }

    private func sometimes(_ inverse: Int, _ body: () -> Void) { if lab.random(0..<inverse) == 0 { body() } }

    private func any(_ choices: [String]) -> String { choices[lab.random(0..<choices.count)] }
}

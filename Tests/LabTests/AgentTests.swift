import Lab
import STUN
import Testing

/// Machines without sockets, run on a host.
@Suite struct AgentTests {
    /// Sends a request, again and again until it is answered, in the shape of the machines of the client library.
    private struct Pinger {
        enum Action {
            case send([UInt8], to: Endpoint)
            case done
        }

        let target: Endpoint
        var attempts = 0
        var answeredAt: UInt64?
        var nextDeadline: UInt64?

        mutating func start(now: UInt64, into actions: inout [Action]) { attempt(now, &actions) }

        mutating func receive(_ bytes: [UInt8], from source: Endpoint, now: UInt64, into actions: inout [Action]) {
            guard source == target, answeredAt == nil else { return }
            (answeredAt, nextDeadline) = (now, nil)
            actions.append(.done)
        }

        mutating func expire(now: UInt64, into actions: inout [Action]) {
            if let nextDeadline, nextDeadline <= now { attempt(now, &actions) }
        }

        private mutating func attempt(_ now: UInt64, _ actions: inout [Action]) {
            attempts += 1
            nextDeadline = now + 500_000_000
            actions.append(.send(Array("ping \(attempts)".utf8), to: target))
        }
    }

    private func pinger(_ host: Host, _ target: Endpoint, done: @escaping () -> Void = {}) -> Agent<
        Pinger, Pinger.Action
    > {
        Agent(on: host, Pinger(target: target)) { machine, input, now, actions in
            guard case .datagram(_, let bytes, let source, _) = input else { return }
            machine.receive(bytes, from: source, now: now, into: &actions)
        } expire: { machine, now, actions in
            machine.expire(now: now, into: &actions)
        } deadline: {
            $0.nextDeadline
        } perform: { agent, action in
            switch action {
            case .send(let bytes, let destination): agent.send(bytes, to: destination)
            case .done: done()
            }
        }
    }

    @Test func aMachineIsGivenWhatComesAndItsTimer() throws {
        let yard = Yard(.symmetric)
        let far = try yard.farSockets()[0]
        far.onReceive = { [unowned far] datagram in
            // The first two are not answered.
            if datagram.bytes.last == 0x33 { far.send("pong", to: datagram.from) }
        }
        var isDone = false
        let agent = pinger(yard.inner, try #require(far.local())) { isDone = true }
        #expect(agent.open() == 0)
        agent.step { machine, now, actions in machine.start(now: now, into: &actions) }
        try yard.internet.run(while: { !isDone })
        #expect(agent.machine.attempts == 3)
        #expect(yard.internet.seconds > 1 && yard.internet.seconds < 1.1)
        try yard.internet.run(seconds: 10)
        #expect(agent.machine.attempts == 3, "without a deadline it is left alone")
    }

    @Test func aMachineHearsOfStreamsAndProblems() throws {
        let internet = Internet(seed: 1) { net in
            net.host("a")
            net.host("b")
        }
        let (a, b) = (internet.host("a"), internet.host("b"))
        func recorder(_ host: Host) -> Agent<[String], Never> {
            Agent(on: host, []) { seen, input, _, _ in
                switch input {
                case .datagram(let socket, let bytes, _, _): seen.append("datagram \(socket) \(bytes.count)")
                case .problem(let socket, let problem): seen.append("problem \(socket) \(problem.kind)")
                case .opened(let stream): seen.append("opened \(stream)")
                case .bytes(let stream, let bytes): seen.append("bytes \(stream) \(bytes.count)")
                case .closed(let stream, let failure):
                    seen.append("closed \(stream) \(failure.map { "\($0)" } ?? "well")")
                case .accepted(let stream, _): seen.append("accepted \(stream)")
                }
            } expire: { _, _, _ in
            } deadline: { _ in
                nil
            } perform: { _, _ in
            }
        }
        let (one, two) = (recorder(a), recorder(b))
        let target = Endpoint(try #require(b.address()), 80)
        #expect(one.connect(to: target) == 0)
        try internet.run(seconds: 1)
        two.listen(80)
        #expect(one.connect(to: target) == 1)
        #expect(one.open() == 0)
        one.send([1], to: target)
        try internet.run(seconds: 1)
        one.send([1, 2, 3], on: 1)
        one.close(stream: 1)
        try internet.run(seconds: 1)
        #expect(one.machine == ["closed 0 refused", "opened 1", "problem 0 portUnreachable", "closed 1 well"])
        #expect(two.machine == ["accepted 0", "bytes 0 3", "closed 0 well"])
    }
}

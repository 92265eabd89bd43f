import Glibc
import NIOCore
import Traversal
import TurnpikeClient

/// One ICE agent with its sockets and its relay.
final class ICEPeer {
    private let plan: ICEPlan
    private let network: NIONetwork
    private let agent: ICEAgent
    private let contexts = SecureContexts()
    private var sockets: [ICEBase: any DatagramPort] = [:]
    private var relay: RelayLink?
    private var relayed: [ICEBase: Endpoint] = [:]
    private var candidates: [ICELocalCandidate] = []
    private var queries = TransactionTable<ICEBase>()
    private var isRelayUnderWay = false
    private var hasGathered = false
    private var exchange = Exchange()
    private lazy var alarm = network.alarm { [weak self] in self?.wake() }
    private lazy var repetition = network.alarm { [weak self] in self?.transmit(isRepeated: true) }

    init(_ plan: ICEPlan, _ network: NIONetwork) {
        (self.plan, self.network) = (plan, network)
        agent = ICEAgent(role: plan.role, cryptography: network.cryptography)
    }

    func begin() {
        tellCredentials()
        let addresses = plan.addresses.isEmpty ? network.localAddresses().map(\.address) : plan.addresses
        for (address, preference) in zip(addresses, AddressOrder.preferences(addresses)) { open(address, preference) }
        if let server = plan.relay {
            isRelayUnderWay = true
            relay = RelayLink(server, network: network, contexts: contexts) { [weak self] in self?.take($0) }
            relay?.start()
        }
        endIfGathered()
    }

    func close() {
        turn { agent, _, actions in agent.close(into: &actions) }
        relay?.close()
        for socket in sockets.values { socket.close() }
    }

    /// A line of standard input.
    func obey(_ line: String) {
        let words = line.split(separator: " ", maxSplits: 3).map(String.init)
        switch words.first {
        case "remote" where words.count >= 3:
            // What follows are the tokens of its `a=ice-options`.
            let options = words.count > 3 ? words[3].split(separator: " ").map(String.init) : []
            guard let credentials = try? ICECredentials(usernameFragment: words[1], password: words[2]) else {
                return tell("unreadable", "\"line\": \(quoted(line))")
            }
            turn { agent, now, actions in
                let parameters = ICERemoteParameters(credentials: credentials, options: options)
                do throws(ICEError) {
                    try agent.setRemote(parameters, now: now, into: &actions)
                } catch { tell("unreadable", "\"line\": \(quoted("\(error)"))") }
            }
        case "candidate":
            guard let candidate = try? CandidateLine.parse(String(line.dropFirst("candidate ".count))) else {
                return tell("unreadable", "\"line\": \(quoted(line))")
            }
            turn { agent, now, actions in agent.addRemoteCandidate(candidate, now: now, into: &actions) }
        case "end": turn { agent, now, actions in agent.endRemoteCandidates(now: now, into: &actions) }
        case "send":
            exchange = Exchange(count: words.count > 1 ? UInt64(words[1]) ?? 0 : 0)
            transmit(isRepeated: false)
        case "restart":
            turn { agent, now, actions in agent.restart(now: now, into: &actions) }
            tellCredentials()
            for candidate in candidates { tellCandidate(agent.signaled(candidate)) }
            tell("gathered")
        case "report": tell("report", "\"text\": \(quoted(agent.report.description))")
        default: break
        }
    }

    // MARK: Candidates

    private func open(_ address: IPAddress, _ preference: UInt16) {
        let base = ICEBase(rawValue: UInt32(sockets.count) + 1)
        var receive: ((DatagramEvent) -> Void)?
        guard let socket = try? network.openDatagrams(at: address, port: 0, { receive?($0) }) else { return }
        receive = { [weak self] event in
            switch event {
            case .datagram(let bytes, let source): self?.receive(bytes, on: base, from: source)
            case .unreachable(let peer): self?.agent.noteUnreachable(peer, from: base)
            case .failed: break
            }
        }
        sockets[base] = socket
        guard !plan.isRelayOnly else { return }
        add(ICELocalCandidate(base: base, type: .host, endpoint: socket.local, localPreference: preference))
        guard let server = plan.stunServer, server.family == address.family else { return }
        let id = TransactionID(high: .random(in: .min ... .max), low: .random(in: .min ... .max))
        let bytes = [UInt8](unsafeUninitializedCapacity: 64) { buffer, count in
            var builder = MessageBuilder(
                MessageType(.binding, .request),
                id,
                into: UnsafeMutableRawBufferPointer(buffer)
            )
            builder.appendFingerprint()
            count = builder.finish() ?? 0
        }
        let request = TransactionTable<ICEBase>.Request(
            bytes: bytes,
            transactionID: id,
            method: .binding,
            destination: server,
            socket: Int(base.rawValue),
            schedule: .datagram(retransmissionNanoseconds: 250_000_000)
        )
        if queries.begin(request, base, now: network.nowNanoseconds) {
            bytes.withUnsafeBytes { socket.send($0, to: server) }
        }
        setAlarm()
    }

    private func take(_ event: RelayEvent) {
        switch event {
        case .allocated(let allocation):
            guard let server = relay?.serverEndpoint else { return }
            let found = ICELocalCandidate.relayed(allocation, at: server, by: .udp) {
                ICEBase(rawValue: $0 == .ipv4 ? 1_001 : 1_002)
            }
            for var candidate in found {
                if plan.isRelayOnly { candidate.related = nil }
                relayed[candidate.base] = candidate.endpoint
                add(candidate)
            }
            isRelayUnderWay = false
            endIfGathered()
        case .received(let bytes, let peer):
            guard let base = relayed.first(where: { $0.value.family == peer.family })?.key else { return }
            receive(bytes, on: base, from: peer)
        case .refused(let peer, _):
            for base in relayed.keys where relayed[base]?.family == peer.family {
                turn { agent, now, actions in agent.refuse(peer, on: base, now: now, into: &actions) }
            }
        case .ended(let failure):
            tell("relay", "\"failure\": \(quoted(failure.map { "\($0)" } ?? "closed"))")
            isRelayUnderWay = false
            endIfGathered()
        case .permitted, .peerError, .renewed, .silent, .renewalRefused: break
        }
    }

    private func add(_ candidate: ICELocalCandidate) {
        candidates.append(candidate)
        turn { agent, now, actions in
            if let told = agent.addLocalCandidate(candidate, now: now, into: &actions) { tellCandidate(told) }
        }
    }

    private func endIfGathered() {
        guard !hasGathered, !isRelayUnderWay, queries.count == 0 else { return }
        hasGathered = true
        turn { agent, now, actions in agent.endLocalCandidates(now: now, into: &actions) }
        tell("gathered")
    }

    // MARK: Packets

    private func receive(_ bytes: UnsafeRawBufferPointer, on base: ICEBase, from source: Endpoint) {
        guard Demultiplexer.kind(bytes) == .stun else { return receiveData(bytes, base, source) }
        if !takeMapping(bytes, base, source) {
            turn { agent, now, actions in
                _ = agent.receive(bytes, on: base, from: source, now: now, into: &actions)
            }
        }
    }

    private func takeMapping(_ bytes: UnsafeRawBufferPointer, _ base: ICEBase, _ source: Endpoint) -> Bool {
        guard let message = try? MessageView(bytes), let socket = sockets[base],
            case .answered(let answer) = queries.receive(
                message,
                from: source,
                socket: Int(base.rawValue),
                now: network.nowNanoseconds,
                with: network.cryptography
            )
        else { return false }
        if answer.errorCode == nil, let mapped = AnswerRules.mappedAddress(of: message), mapped != socket.local {
            add(
                ICELocalCandidate(
                    base: base,
                    type: .serverReflexive,
                    endpoint: mapped,
                    baseEndpoint: socket.local,
                    server: source.address,
                    related: socket.local
                )
            )
        }
        endIfGathered()
        return true
    }

    private func receiveData(_ bytes: UnsafeRawBufferPointer, _ base: ICEBase, _ source: Endpoint) {
        agent.noteReceived(on: base, from: source, now: network.nowNanoseconds)
        switch bytes.first {
        case Exchange.question: send([Exchange.answer] + bytes.dropFirst())
        case Exchange.answer:
            if exchange.take(bytes) { transmit(isRepeated: false) }
        default: break
        }
    }

    private func transmit(isRepeated: Bool) {
        guard let datagram = exchange.next else {
            repetition.set(at: nil)
            if !isRepeated { tell("echoed", exchange.summary) }
            return
        }
        if isRepeated { exchange.repeated += 1 }
        repetition.set(at: network.nowNanoseconds + Exchange.repetitionNanoseconds)
        send(datagram)
    }

    private func send(_ bytes: [UInt8]) {
        guard let path = agent.path else { return }
        send(bytes, by: path.base, to: path.remote)
        if agent.noteSent(now: network.nowNanoseconds) { setAlarm() }
    }

    private func send(_ bytes: [UInt8], by base: ICEBase, to peer: Endpoint) {
        bytes.withUnsafeBytes { bytes in
            if let socket = sockets[base] { socket.send(bytes, to: peer) } else { _ = relay?.send(bytes, to: peer) }
        }
    }

    // MARK: The agent

    private func turn(_ body: (ICEAgent, UInt64, inout [ICEAction]) -> Void) {
        var actions: [ICEAction] = []
        body(agent, network.nowNanoseconds, &actions)
        for action in actions {
            switch action {
            case .send(let base, let peer, let bytes): send(bytes, by: base, to: peer)
            case .connect: break
            case .permit(_, let peer): relay?.permit(peer.address)
            case .release(_, let peer): relay?.release(peer)
            case .bindChannel(_, let peer): relay?.bindChannel(to: peer)
            case .resolve(let name):
                network.resolve(name) { [weak self] answer in
                    let address = (try? answer.get())?.first
                    self?.turn { $0.resolve(name: name, to: address, now: $1, into: &$2) }
                }
            case .path(let path): tell(path)
            case .restartWanted: tell("restart-wanted")
            case .datagramBytes: break
            case .role(let role): tell("role", "\"role\": \"\(role)\"")
            case .state(let state): tell("state", "\"state\": \"\(state)\", \"role\": \"\(agent.role)\"")
            case .failed(let report): tell("report", "\"text\": \(quoted(report.description))")
            }
        }
        setAlarm()
    }

    private func wake() {
        for event in queries.advance(now: network.nowNanoseconds) {
            if case .transmit(let socket, let server, let bytes) = event {
                send(bytes, by: ICEBase(rawValue: UInt32(socket)), to: server)
            }
        }
        endIfGathered()
        turn { agent, now, actions in agent.advance(now: now, into: &actions) }
    }

    private func setAlarm() {
        let next = min(agent.nextDeadline ?? .max, queries.nextDeadline ?? .max)
        alarm.set(at: next == .max ? nil : next)
    }

    // MARK: What is told

    private func tellCredentials() {
        let credentials = agent.localCredentials
        tell(
            "credentials",
            "\"fragment\": \(quoted(credentials.usernameFragment)), \"password\": \(quoted(credentials.password))"
        )
    }

    private func tellCandidate(_ candidate: ICECandidate) {
        tell("candidate", "\"line\": \(quoted(CandidateLine.text(candidate)))")
    }

    private func tell(_ path: ICEPath?) {
        guard let path else { return tell("pair", "\"local\": null, \"remote\": null, \"nominated\": false") }
        let local = sockets[path.base]?.local ?? relayed[path.base]
        tell(
            "pair",
            "\"local\": \(json(path.localType, local)), \"remote\": \(json(path.remoteType, path.remote)), "
                + "\"nominated\": \(path.isNominated)"
        )
    }

    private func json(_ type: ICECandidateType, _ endpoint: Endpoint?) -> String {
        guard let endpoint else { return "null" }
        return "[\"\(type.rawValue)\", \"\(AddressText.text(endpoint.address))\", \(endpoint.port)]"
    }

    private func quoted(_ text: String) -> String {
        "\"\(text.replacing("\\", with: "\\\\").replacing("\"", with: "'").replacing("\n", with: "\\n"))\""
    }

    private func tell(_ event: String, _ members: String = "") {
        // Without the buffers of `print`: to flush them all waits for standard input, which is being read.
        var line = "{\"event\": \"\(event)\"\(members.isEmpty ? "" : ", ")\(members)}\n"
        line.withUTF8 { _ = write(STDOUT_FILENO, $0.baseAddress, $0.count) }
    }
}

import OpenSSLCrypto
import STUN
import TURN

/// A STUN and TURN server: the real engine, with the lab's sockets and clock.
///
/// It listens on ports 3478 and 3479 of all its addresses by UDP and TCP, so that NATs can be discovered (RFC 5780),
/// and with TCP on 5349 and 443 as if there were TLS, which the lab's wires have no need of.
package final class RelayServer {
    package struct Configuration {
        package var engine: TURN.Configuration
        package var ports: [UInt16] = [3_478, 3_479]
        package var tlsPorts: [UInt16] = [443, 5_349]
        package var relayPorts: ClosedRange<UInt16> = 49_152...65_535
        /// Allocations go along with their clients (RFC 8016).
        package var allowsMobility: Bool {
            get { engine.allowsMobility }
            set { engine.allowsMobility = newValue }
        }
    }

    package let host: Host
    package let configuration: Configuration
    let cryptography: SeededCryptography
    private(set) var engine: Engine
    /// What it has dropped, by reason.
    package private(set) var drops: [TURN.DropReason: Int] = [:]

    private let relays: RelaySockets
    private var listeners: [Endpoint: UDPSocket] = [:]
    private var streams: [FiveTuple: RelayStream] = [:]
    private var records: [String: UserRecord] = [:]
    private var reply = [UInt8](repeating: 0, count: 2_048)
    /// Requests that wait for what becomes of a move (RFC 8016).
    private var parked: [UInt64: (bytes: [UInt8], tuple: FiveTuple)] = [:]
    private var internet: Internet { host.internet }

    package var realm: String { configuration.engine.realm }

    init(_ host: Host, users: [String: String], _ configure: (inout Configuration) -> Void) {
        self.host = host
        let seed = host.dice.next()
        guard let cryptography = try? SeededCryptography(seed: seed) else {
            preconditionFailure("OpenSSL has no HMAC")
        }
        self.cryptography = cryptography
        let nonceKeys = NonceKeys(current: host.dice.bytes(32))
        var configuration = Configuration(engine: TURN.Configuration(realm: "lab", nonceKeys: nonceKeys))
        configure(&configuration)
        let ports = configuration.ports
        configuration.engine.prepare(host.addresses, ports)
        self.configuration = configuration
        relays = RelaySockets(host, configuration.relayPorts)
        engine = Self.engine(configuration, cryptography, relays, seed)
        for (name, password) in users { add(user: name, password: password) }
        relays.server = self
        listen()
    }

    private static func engine(
        _ configuration: Configuration,
        _ cryptography: SeededCryptography,
        _ relays: RelaySockets,
        _ seed: UInt64
    ) -> Engine {
        Engine(
            configuration: configuration.engine,
            shared: Engine.Shared(seed: seed),
            cryptography: cryptography,
            host: relays
        )
    }

    // MARK: What a test asks

    /// A1 and P1 of RFC 5780.
    package func endpoint(_ family: AddressFamily = .ipv4) -> Endpoint {
        Endpoint(host.address(family) ?? IPAddress(v4: 0), configuration.ports[0])
    }

    /// A2 and P2.
    package func alternate(_ family: AddressFamily = .ipv4) -> Endpoint {
        let addresses = host.addresses.filter { $0.family == family }
        return Endpoint(addresses.last ?? IPAddress(v4: 0), configuration.ports.last ?? 0)
    }

    package var allocationCount: Int { engine.allocationCount }

    package func add(user name: String, password: String) {
        let text = Array("\(name):\(realm):\(password)".utf8)
        guard let keys = CredentialKeys(md5: Digest.md5(text), sha256: Digest.sha256(text)) else { return }
        records[name] = UserRecord(
            name: name,
            keys: keys,
            expiresAtSeconds: nil,
            maximumAllocations: nil,
            isEnabled: true
        )
    }

    /// Ends what the user has, and lets it in no more.
    package func remove(user name: String) {
        records[name] = nil
        engine.revoke(user: name, at: internet.moment)
        engine.forget(user: name)
    }

    /// Stops and starts anew: allocations are gone, connections are reset.
    package func restart() {
        for stream in host.streams.all { stream.abort() }
        streams = [:]
        relays.closeAll()
        parked = [:]
        engine = Self.engine(configuration, cryptography, relays, host.dice.next())
    }

    // MARK: Clients

    private func listen() {
        for address in host.addresses {
            for port in configuration.ports {
                guard let socket = host.udp(port: port, at: address) else { continue }
                let endpoint = Endpoint(address, port)
                listeners[endpoint] = socket
                socket.onReceive = { [unowned self] datagram in
                    let tuple = FiveTuple(client: datagram.from, server: endpoint, transport: .udp)
                    take(datagram.bytes, from: tuple)
                }
                host.listen(port, at: address) { [unowned self] in accept($0, .tcp) }
            }
            for port in configuration.tlsPorts {
                host.listen(port, at: address) { [unowned self] in accept($0, .tls) }
            }
        }
    }

    private func accept(_ connection: TCPConnection, _ transport: ClientTransport) {
        let tuple = FiveTuple(client: connection.remote, server: connection.local, transport: transport)
        let stream = RelayStream(connection)
        streams[tuple] = stream
        connection.onReceive = { [unowned self] bytes in
            stream.take(bytes, wide: configuration.engine.acceptsWideChannels) { self.take($0, from: tuple) }
        }
        connection.onEnd = { [unowned connection] in connection.finish() }
        connection.onClose = { [unowned self] _ in
            guard streams[tuple] === stream else { return }
            streams[tuple] = nil
            engine.disconnect(tuple, at: internet.moment)
        }
    }

    private func take(_ bytes: [UInt8], from tuple: FiveTuple) {
        let isChannel = bytes.first.map { $0 & 0xC0 == 0x40 } ?? false
        // The first data by a new 5-tuple brings a mobile allocation there.
        if isChannel, engine.allocation(of: tuple) == noIndex { call(tuple) }
        for _ in 0..<3 {
            let verdict = isChannel ? channelData(bytes, tuple) : message(bytes, tuple)
            switch verdict {
            case .needsCredentials(let query): engine.learn(query, record(for: query))
            case .arriving: call(tuple)
            case .needsOwner(let request, _):
                parked[request.number] = (bytes, tuple)
                relays.moves.append(.asked(request))
                return deliverMoves()
            default: return perform(verdict, bytes, tuple)
            }
        }
    }

    private func call(_ tuple: FiveTuple) {
        engine.callAllocation(to: tuple)
        deliverMoves()
    }

    /// What workers would tell each other about an allocation that moves; here there is one, which tells itself.
    private func deliverMoves() {
        while !relays.moves.isEmpty {
            let outcome = engine.receive(relays.moves.removeFirst(), at: internet.moment)
            guard case .answer(let number) = outcome, let request = parked.removeValue(forKey: number) else { continue }
            take(request.bytes, from: request.tuple)
            engine.forgetAnswer(at: request.tuple)
        }
    }

    private func message(_ bytes: [UInt8], _ tuple: FiveTuple) -> Verdict {
        bytes.withUnsafeBytes { bytes in
            reply.withUnsafeMutableBytes {
                engine.receive(bytes, from: tuple, listener: 0, at: internet.moment, reply: $0)
            }
        }
    }

    private func channelData(_ bytes: [UInt8], _ tuple: FiveTuple) -> Verdict {
        bytes.withUnsafeBytes { engine.channelData($0, allocation: engine.allocation(of: tuple), now: internet.now) }
    }

    private func record(for query: CredentialQuery) -> UserRecord? {
        switch query {
        case .name(let name): records[name]
        case .userhash(let hash):
            records.values.first { Digest.sha256(Array("\($0.name):\(realm)".utf8)) == hash }
        }
    }

    private func perform(_ verdict: Verdict, _ bytes: [UInt8], _ tuple: FiveTuple) {
        switch verdict {
        case .reply(let length): send(Array(reply.prefix(length)), to: tuple)
        case .replyElsewhere(let length, let origin, let destination):
            listeners[origin]?.send(Array(reply.prefix(length)), to: destination)
        case .forward(let forward):
            let payload = Array(bytes[forward.offset..<(forward.offset + forward.length)])
            relays.socket(forward.descriptor)?.send(payload, to: forward.destination)
        case .drop(let reason): drops[reason, default: 0] += 1
        case .handled, .needsCredentials, .bind, .needsOwner, .arriving: break
        }
    }

    private func send(_ bytes: [UInt8], to tuple: FiveTuple) {
        if let stream = streams[tuple] {
            stream.connection.send(bytes + [UInt8](repeating: 0, count: -bytes.count & 3))
        } else {
            listeners[tuple.server]?.send(bytes, to: tuple.client)
        }
    }

    // MARK: Peers

    func take(_ datagram: Datagram, for allocation: UInt32) {
        let count = UInt64(datagram.bytes.count)
        var run = PayloadRun(packets: 1, bytes: count, segmentBytes: count)
        let verdict = engine.peerData(from: datagram.from, allocation: allocation, run: &run, now: internet.now)
        let client = engine.client(of: allocation).tuple
        switch verdict {
        case .channel(let number):
            var header = [UInt8](repeating: 0, count: ChannelData.headerLength)
            header.withUnsafeMutableBytes { bytes in
                bytes.store(number, at: 0)
                bytes.store(UInt16(truncatingIfNeeded: datagram.bytes.count), at: 2)
            }
            send(header + datagram.bytes, to: client)
        case .indication(let peer):
            var header = [UInt8](repeating: 0, count: Engine.indicationHeaderLength(peer.family))
            header.withUnsafeMutableBytes { bytes in
                guard let start = bytes.baseAddress else { return }
                engine.writeIndicationHeader(peer: peer, length: datagram.bytes.count, at: start)
            }
            send(header + datagram.bytes + [UInt8](repeating: 0, count: -datagram.bytes.count & 3), to: client)
        case .drop(let reason): drops[reason, default: 0] += 1
        }
    }

    func take(_ problem: Problem, for allocation: UInt32) {
        let report = PeerErrorReport(problem)
        let length = reply.withUnsafeMutableBytes {
            engine.peerError(report, allocation: allocation, at: internet.moment, into: $0)
        }
        if let length { send(Array(reply.prefix(length)), to: engine.client(of: allocation).tuple) }
    }

    func expire(_ allocation: UInt32) { engine.expire(allocation: allocation, at: internet.moment) }
}

extension TURN.Configuration {
    /// What a server derives from its own addresses.
    fileprivate mutating func prepare(_ addresses: [IPAddress], _ ports: [UInt16]) {
        let listeners = addresses.flatMap { address in ports.map { Endpoint(address, $0) } }
        policy.listeners.formUnion(listeners)
        policy.ownAddresses.formUnion(addresses)
        func pair(_ family: AddressFamily) -> NATDiscovery.Pair? {
            let own = addresses.filter { $0.family == family }
            guard own.count > 1, ports.count > 1 else { return nil }
            return NATDiscovery.Pair(
                primary: Endpoint(own[0], ports[0]),
                alternate: Endpoint(own[1], ports[1]),
                isWildcard: false
            )
        }
        (discovery.v4, discovery.v6) = (pair(.ipv4), pair(.ipv6))
        discovery.attach(udp: listeners, tcp: listeners)
    }
}

extension PeerErrorReport {
    fileprivate init(_ problem: Problem) {
        let isIPv4 = problem.destination.address.isIPv4
        switch problem.kind {
        case .tooBig(let mtu): self.init(tooLongFor: problem.destination, mtu: UInt32(clamping: mtu))
        case .portUnreachable:
            self.init(destination: problem.destination, type: isIPv4 ? 3 : 1, code: isIPv4 ? 3 : 4, mtu: 0)
        case .hopLimitExceeded:
            self.init(destination: problem.destination, type: isIPv4 ? 11 : 3, code: 0, mtu: 0)
        }
    }
}

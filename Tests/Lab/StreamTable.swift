import STUN

/// The TCP connections and listeners of a host.
final class StreamTable {
    struct Pair: Hashable {
        var local: Endpoint
        var remote: Endpoint
    }

    private var connections: [Pair: TCPConnection] = [:]
    private var listeners: [Endpoint: (TCPConnection) -> Void] = [:]
    /// Listeners on all addresses.
    private var ports: [UInt16: (TCPConnection) -> Void] = [:]

    /// In an order that is the same in every run.
    var all: [TCPConnection] {
        connections.values.sorted { ($0.local.text, $0.remote.text) < ($1.local.text, $1.remote.text) }
    }

    func isUsed(_ port: UInt16) -> Bool {
        ports[port] != nil || listeners.keys.contains { $0.port == port }
            || connections.keys.contains { $0.local.port == port }
    }

    func add(_ connection: TCPConnection) -> Bool {
        let pair = Pair(local: connection.local, remote: connection.remote)
        guard connections[pair] == nil else { return false }
        connections[pair] = connection
        return true
    }

    func remove(_ connection: TCPConnection) {
        let pair = Pair(local: connection.local, remote: connection.remote)
        if connections[pair] === connection { connections[pair] = nil }
    }

    func listen(_ port: UInt16, at address: IPAddress?, _ accept: ((TCPConnection) -> Void)?) {
        if let address { listeners[Endpoint(address, port)] = accept } else { ports[port] = accept }
    }

    /// - Returns: false for a segment that nobody waits for.
    func take(_ segment: Segment, _ packet: Packet, _ host: Host) -> Bool {
        if let connection = connections[Pair(local: packet.destination, remote: packet.source)] {
            host.internet.note(.arrived, packet, at: host.name)
            connection.take(segment)
            return true
        }
        let accept = listeners[packet.destination] ?? ports[packet.destination.port]
        guard let accept, segment.flags.contains(.syn), !segment.flags.contains(.ack) else { return false }
        host.internet.note(.arrived, packet, at: host.name)
        let connection = TCPConnection(host, packet.destination, packet.source)
        _ = add(connection)
        connection.accept(segment, then: accept)
        return true
    }

    func take(_ problem: Problem) {
        connections[Pair(local: problem.source, remote: problem.destination)]?.take(problem)
    }
}

extension Host {
    /// Takes TCP connections to that port, until another call replaces this one; with nil, refuses them.
    package func listen(_ port: UInt16, at address: IPAddress? = nil, _ accept: ((TCPConnection) -> Void)?) {
        streams.listen(port, at: address, accept)
    }

    /// Cuts the connections with that end, as a router does that forgets them.
    package func abortStreams(to remote: Endpoint) {
        for connection in streams.all where connection.remote == remote { connection.abort() }
    }

    /// - Returns: nil for a port that is taken.
    package func freeStreamPort(_ wanted: UInt16 = 0) -> UInt16? {
        guard wanted != 0 else { return ephemeralPort { !streams.isUsed($0) } }
        return streams.isUsed(wanted) ? nil : wanted
    }

    /// Opens a TCP connection. Whether it succeeds, the connection's callbacks tell.
    /// - Parameters:
    ///   - port: its own, which other connections and a listener may use too (SO_REUSEADDR and SO_REUSEPORT); 0 for any
    ///     free one.
    ///   - own: the address to come from; nil for the host's choice.
    /// - Returns: nil where there is such a connection already, or no address of that family.
    package func connect(to remote: Endpoint, from port: UInt16 = 0, at own: IPAddress? = nil) -> TCPConnection? {
        guard let address = own ?? source(towards: remote.address),
            let port = port != 0 ? port : ephemeralPort({ !streams.isUsed($0) })
        else { return nil }
        let connection = TCPConnection(self, Endpoint(address, port), remote)
        guard streams.add(connection) else { return nil }
        connection.connect()
        return connection
    }
}

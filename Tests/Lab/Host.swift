import STUN

/// A computer: addresses on one or more networks, UDP sockets, TCP connections.
package final class Host: Node {
    package let name: String
    package unowned let internet: Internet
    /// In the order of preference.
    package private(set) var interfaces: [Attachment] = []
    /// Whether ICMP and resets answer what nobody listens for.
    package var answersUnreachable = true

    private var watchers: [ObjectIdentifier: () -> Void] = [:]
    private var unplugged: [Attachment] = []
    private var sockets: [UInt16: [UDPSocket]] = [:]
    let streams = StreamTable()
    var dice: Dice

    init(_ name: String, in internet: Internet) {
        self.name = name
        self.internet = internet
        dice = Dice(seed: internet.seed, for: "host \(name)")
    }

    package var now: UInt64 { internet.now }

    package var addresses: [IPAddress] { interfaces.flatMap(\.addresses) }

    /// The first of that family.
    package func address(_ family: AddressFamily = .ipv4) -> IPAddress? { addresses.first { $0.family == family } }

    /// Its cable, where it has one.
    package var link: Link { interfaces[0].link }

    // MARK: Networks

    /// Plugs the host into a network, behind the interfaces that it has.
    @discardableResult
    package func attach(to network: Network, _ addresses: [IPAddress], _ quality: LinkQuality = .local) -> Attachment {
        let link = Link("\(name)–\(network.name)", quality, in: internet)
        let attachment = Attachment(self, to: network, link)
        for address in addresses { attachment.add(address) }
        interfaces.append(attachment)
        return attachment
    }

    /// Unplugs it, and loses what is on the cable. Sockets stay open and reach nothing by that address.
    package func detach(_ attachment: Attachment) {
        attachment.link.cut()
        // Packets on it look at it once more.
        unplugged.append(attachment)
        for address in attachment.addresses { attachment.remove(address) }
        interfaces.removeAll { $0 === attachment }
    }

    /// Tells the owner of every address that comes or goes, until it is told with nil.
    package func watchAddresses(for owner: AnyObject, _ changed: (() -> Void)?) {
        watchers[ObjectIdentifier(owner)] = changed
    }

    func noteAddresses() { for changed in watchers.values { internet.scheduler.after(nanoseconds: 0, changed) } }

    // MARK: UDP

    /// - Parameters:
    ///   - port: 0 for any free one.
    ///   - address: one of the host's own, or nil for all.
    package func udp(port: UInt16 = 0, at address: IPAddress? = nil) -> UDPSocket? {
        let chosen = port != 0 ? port : ephemeralPort { isFree($0, address) }
        guard let chosen, isFree(chosen, address) else { return nil }
        let socket = UDPSocket(self, address, chosen)
        sockets[chosen, default: []].append(socket)
        return socket
    }

    func close(_ socket: UDPSocket) {
        sockets[socket.port]?.removeAll { $0 === socket }
        if sockets[socket.port]?.isEmpty == true { sockets[socket.port] = nil }
    }

    private func isFree(_ port: UInt16, _ address: IPAddress?) -> Bool {
        !(sockets[port] ?? []).contains { address == nil || $0.address == nil || $0.address == address }
    }

    func ephemeralPort(_ isFree: (UInt16) -> Bool) -> UInt16? {
        for _ in 0..<1_000 {
            let port = dice.port(32_768...60_999)
            if isFree(port) { return port }
        }
        return nil
    }

    // MARK: Packets

    /// The address that a packet to that destination comes from, where the sender does not say.
    func source(towards destination: IPAddress) -> IPAddress? {
        interfaces.lazy.filter(\.link.isUp).flatMap(\.addresses).first { $0.isIPv4 == destination.isIPv4 }
            ?? addresses.first { $0.isIPv4 == destination.isIPv4 }
    }

    func send(_ packet: Packet) {
        var packet = packet
        packet.number = internet.nextPacketNumber()
        internet.note(.sent, packet, at: name)
        if addresses.contains(packet.destination.address) {
            // The way to oneself takes no link, but it takes a moment.
            internet.log.inFlight += 1
            internet.scheduler.after(nanoseconds: 10_000) { [self] in
                internet.log.inFlight -= 1
                take(packet)
            }
        } else if let way = interfaces.first(where: { $0.addresses.contains(packet.source.address) }) {
            way.send(packet)
        } else {
            internet.note(.dropped(.noRoute), packet, at: name)
        }
    }

    func receive(_ packet: Packet, at attachment: Attachment) { take(packet) }

    private func take(_ packet: Packet) {
        switch packet.body {
        case .datagram(let bytes):
            let candidates = sockets[packet.destination.port] ?? []
            let bound = candidates.first { $0.address == packet.destination.address }
            guard let socket = bound ?? candidates.first(where: { $0.address == nil }) else { return refuse(packet) }
            internet.note(.arrived, packet, at: name)
            socket.take(Datagram(bytes: bytes, from: packet.source, to: packet.destination))
        case .segment(let segment):
            guard streams.take(segment, packet, self) else { return refuse(packet) }
        case .problem(let problem):
            internet.note(.arrived, packet, at: name)
            if problem.transport == .tcp { return streams.take(problem) }
            for socket in sockets[problem.source.port] ?? []
            where socket.address == nil || socket.address == problem.source.address {
                socket.onProblem?(problem)
            }
        }
    }

    private func refuse(_ packet: Packet) {
        internet.note(.dropped(.noSocket), packet, at: name)
        guard answersUnreachable else { return }
        if case .segment(let segment) = packet.body {
            guard let reset = segment.reset else { return }
            send(Packet(source: packet.destination, destination: packet.source, body: .segment(reset)))
        } else if let problem = Problem(.portUnreachable, with: packet) {
            send(
                Packet(
                    source: Endpoint(packet.destination.address, 0),
                    destination: Endpoint(packet.source.address, 0),
                    body: .problem(problem)
                )
            )
        }
    }
}

package struct Datagram: Equatable {
    package let bytes: [UInt8]
    package let from: Endpoint
    /// The host's own address and port that it came to.
    package let to: Endpoint
}

package final class UDPSocket {
    /// nil: bound to all of the host's addresses.
    package let address: IPAddress?
    package let port: UInt16
    /// Takes what comes. Without it, datagrams are put into `inbox`.
    package var onReceive: ((Datagram) -> Void)?
    /// Hears what ICMP says of what was sent.
    package var onProblem: ((Problem) -> Void)?
    package var inbox: [Datagram] = []
    private unowned let host: Host

    init(_ host: Host, _ address: IPAddress?, _ port: UInt16) {
        self.host = host
        self.address = address
        self.port = port
    }

    /// Where it is bound, by the first address of that family where it is bound to all.
    package func local(_ family: AddressFamily = .ipv4) -> Endpoint? {
        (address ?? host.address(family)).map { Endpoint($0, port) }
    }

    /// - Returns: false where the host has no address of the destination's family.
    @discardableResult
    package func send(_ bytes: [UInt8], to destination: Endpoint, hopLimit: Int = 64) -> Bool {
        guard let source = address ?? host.source(towards: destination.address),
            source.isIPv4 == destination.address.isIPv4
        else { return false }
        host.send(
            Packet(
                source: Endpoint(source, port),
                destination: destination,
                hopLimit: hopLimit,
                body: .datagram(bytes)
            )
        )
        return true
    }

    @discardableResult
    package func send(_ text: String, to destination: Endpoint, hopLimit: Int = 64) -> Bool {
        send(Array(text.utf8), to: destination, hopLimit: hopLimit)
    }

    /// What has come as text since it was asked last.
    package func takeTexts() -> [String] {
        defer { inbox = [] }
        return inbox.map { String(decoding: $0.bytes, as: UTF8.self) }
    }

    package func close() { host.close(self) }

    func take(_ datagram: Datagram) {
        if let onReceive { onReceive(datagram) } else { inbox.append(datagram) }
    }
}

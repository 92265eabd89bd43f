import Traversal

/// A relayed address that data and checks leave from, as the relays' owner offers it.
protocol RelayWay: AnyObject {
    func send(_ bytes: UnsafeRawBufferPointer, to peer: Endpoint)
    /// Lets that peer in.
    func permit(_ peer: IPAddress)
    /// Data is going to go to that peer: a channel makes it shorter.
    func prefer(_ peer: Endpoint)
    /// A connection that asked for `permit` needs the peer no more.
    func release(_ peer: IPAddress)
}

/// A TCP port that checks and data leave from, as its owner offers it.
protocol StreamWay: AnyObject {
    /// Has a connection with that peer, or tries for some seconds to get one.
    func connect(to peer: Endpoint)
    /// Waits where a connection is about to be there, and is lost where none is.
    func send(_ bytes: UnsafeRawBufferPointer, to peer: Endpoint)
    /// Nobody needs the connection any more.
    func release(_ peer: Endpoint)
}

/// One connection's part in what comes by the sockets and relays that all share.
protocol PathUser: AnyObject {
    /// Whether checks that are addressed to this user name fragment are its own.
    func answers(to fragment: Substring) -> Bool
    /// - Returns: whether it was of use.
    func receiveCheck(_ bytes: UnsafeRawBufferPointer, on base: ICEBase, from source: Endpoint) -> Bool
    /// It has the keys by which it knows its own records.
    var isSecure: Bool { get }
    /// A record of a handshake, by the connection's name.
    func receiveEnvelope(_ record: UnsafeRawBufferPointer, on base: ICEBase, from source: Endpoint)
    /// - Returns: whether the record was of this connection.
    func receiveRecord(_ bytes: UnsafeRawBufferPointer, on base: ICEBase, from source: Endpoint) -> Bool
    func noteUnreachable(_ peer: Endpoint, from base: ICEBase)
    /// The TCP connection with that peer is there, or gone.
    func noteStream(isOpen: Bool, with peer: Endpoint, on base: ICEBase)
}

/// Every socket and relay that connections use, by the number that their ICE agents know it by.
///
/// One socket carries the checks and the encrypted records of several connections. Checks name the connection by their
/// user name fragment (RFC 8445 section 7.2.2); records are told by where they come from, and where two connections
/// share that, by who can open them.
final class PathRouter {
    private enum Way {
        case socket(any DatagramPort)
        case relay(any RelayWay)
        case stream(any StreamWay)
    }

    private struct Route: Hashable {
        let base: ICEBase
        let peer: Endpoint
    }

    private struct Permit: Hashable {
        let base: ICEBase
        let peer: IPAddress
    }

    private struct User {
        let user: any PathUser
        var permits: Set<Permit> = []
        /// In the order in which it began to use them.
        var routes: [Route: UInt64] = [:]
    }

    private var ways: [ICEBase: Way] = [:]
    private var users: [ObjectIdentifier: User] = [:]
    /// Who has sent to a peer, the last first.
    private var routes: [Route: [ObjectIdentifier]] = [:]
    private var nextBase: UInt32 = 1
    private var pieces = PartialRecords<Route>()
    private var routeCount: UInt64 = 0
    /// What came and was nobody's.
    private(set) var ignored: UInt64 = 0

    // MARK: Ways

    func add(_ port: any DatagramPort) -> ICEBase {
        let base = ICEBase(rawValue: nextBase)
        nextBase &+= 1
        ways[base] = .socket(port)
        return base
    }

    func add(_ makeStream: (ICEBase) -> any StreamWay) -> ICEBase {
        let base = ICEBase(rawValue: nextBase)
        nextBase &+= 1
        ways[base] = .stream(makeStream(base))
        return base
    }

    /// - Parameter base: from `ClientLimits.firstRelayBase` on.
    func add(_ relay: any RelayWay, as base: ICEBase) { ways[base] = .relay(relay) }

    func remove(_ base: ICEBase) {
        ways[base] = nil
        for route in routes.keys where route.base == base { routes[route] = nil }
        for (id, user) in users {
            var user = user
            user.permits = user.permits.filter { $0.base != base }
            user.routes = user.routes.filter { $0.key.base != base }
            users[id] = user
        }
    }

    // MARK: Users

    func attach(_ user: any PathUser) { users[ObjectIdentifier(user)] = User(user: user) }

    func detach(_ user: any PathUser) {
        let id = ObjectIdentifier(user)
        guard let gone = users.removeValue(forKey: id) else { return }
        for route in gone.routes.keys { forget(route, of: id) }
        for route in gone.permits {
            if case .relay(let relay) = ways[route.base] { relay.release(route.peer) }
        }
    }

    /// The relay is to let the peer in, until the same user calls `release` or is detached.
    func permit(_ peer: IPAddress, on base: ICEBase, for user: any PathUser) {
        guard case .relay(let relay) = ways[base] else { return }
        let permit = Permit(base: base, peer: peer)
        if users[ObjectIdentifier(user)]?.permits.insert(permit).inserted == true { relay.permit(peer) }
    }

    func release(_ peer: IPAddress, on base: ICEBase, for user: any PathUser) {
        let permit = Permit(base: base, peer: peer)
        guard users[ObjectIdentifier(user)]?.permits.remove(permit) != nil, case .relay(let relay) = ways[base] else {
            return
        }
        relay.release(peer)
    }

    /// The user's data goes this way from now on.
    func prefer(_ peer: Endpoint, on base: ICEBase) {
        if case .relay(let relay) = ways[base] { relay.prefer(peer) }
    }

    func connect(to peer: Endpoint, on base: ICEBase, for user: any PathUser) {
        guard case .stream(let stream) = ways[base] else { return }
        note(Route(base: base, peer: peer), ObjectIdentifier(user))
        stream.connect(to: peer)
    }

    func send(_ bytes: UnsafeRawBufferPointer, to peer: Endpoint, on base: ICEBase, for user: any PathUser) {
        note(Route(base: base, peer: peer), ObjectIdentifier(user))
        switch ways[base] {
        case .socket(let port): port.send(bytes, to: peer)
        case .relay(let relay): relay.send(bytes, to: peer)
        case .stream(let stream): stream.send(bytes, to: peer)
        case nil: break
        }
    }

    private func note(_ route: Route, _ id: ObjectIdentifier) {
        if routes[route]?.first == id { return }
        guard let known = users[id] else { return }
        if known.routes[route] == nil, known.routes.count >= ClientLimits.routesPerPeer,
            // A peer that moves has new addresses all the time. One that is in use comes back with the next packet.
            let oldest = known.routes.min(by: { $0.value < $1.value })?.key
        {
            users[id]?.routes[oldest] = nil
            forget(oldest, of: id)
        }
        routeCount &+= 1
        users[id]?.routes[route] = routeCount
        routes[route]?.removeAll { $0 == id }
        routes[route, default: []].insert(id, at: 0)
    }

    private func forget(_ route: Route, of id: ObjectIdentifier) {
        routes[route]?.removeAll { $0 == id }
        guard routes[route]?.isEmpty == true else { return }
        routes[route] = nil
        if case .stream(let stream) = ways[route.base] { stream.release(route.peer) }
    }

    // MARK: What comes

    /// - Returns: whether it was of use to anybody.
    @discardableResult
    func receive(_ bytes: UnsafeRawBufferPointer, on base: ICEBase, from source: Endpoint) -> Bool {
        let plain = Endpoint(address: source.address.withoutLink, port: source.port)
        if let piece = RecordPiece(bytes) { return receive(piece, on: base, from: plain) }
        let isTaken =
            switch Demultiplexer.kind(bytes) {
            case .stun: receiveCheck(bytes, on: base, from: plain)
            case .dtls: receiveRecord(bytes, on: base, from: plain)
            case .channelData, .media, .unknown: false
            }
        if !isTaken { ignored &+= 1 }
        return isTaken
    }

    /// - Returns: whether it was the last of a record, and somebody's.
    private func receive(_ piece: RecordPiece, on base: ICEBase, from source: Endpoint) -> Bool {
        let route = Route(base: base, peer: source)
        guard routes[route] != nil else {
            ignored &+= 1
            return false
        }
        guard let record = pieces.add(piece, from: route) else { return false }
        return record.withUnsafeBytes { record in
            // A piece that holds another would lead here for ever.
            let isTaken = Demultiplexer.kind(record) == .dtls && receiveRecord(record, on: base, from: source)
            if !isTaken { ignored &+= 1 }
            return isTaken
        }
    }

    func noteStream(isOpen: Bool, with peer: Endpoint, on base: ICEBase) {
        for entry in users.values { entry.user.noteStream(isOpen: isOpen, with: peer, on: base) }
    }

    func noteUnreachable(_ peer: Endpoint, from base: ICEBase) {
        for entry in users.values { entry.user.noteUnreachable(peer, from: base) }
    }

    private func receiveCheck(_ bytes: UnsafeRawBufferPointer, on base: ICEBase, from source: Endpoint) -> Bool {
        if let fragment = Demultiplexer.localFragment(bytes) {
            guard let entry = users.values.first(where: { $0.user.answers(to: fragment[...]) }) else { return false }
            return entry.user.receiveCheck(bytes, on: base, from: source)
        }
        if let (fragment, record) = HandshakeEnvelope.open(bytes) {
            guard let entry = users.values.first(where: { $0.user.answers(to: fragment[...]) }) else { return false }
            entry.user.receiveEnvelope(record, on: base, from: source)
            return true
        }
        // An answer: those who have sent there know it by its transaction.
        let candidates = routes[Route(base: base, peer: source)] ?? Array(users.keys)
        return candidates.contains { users[$0]?.user.receiveCheck(bytes, on: base, from: source) == true }
    }

    /// application_data (RFC 5246 section 6.2.1).
    private static let dataRecord: UInt8 = 23

    private func receiveRecord(_ bytes: UnsafeRawBufferPointer, on base: ICEBase, from source: Endpoint) -> Bool {
        guard let ids = routes[Route(base: base, peer: source)] else { return false }
        // Who is in the middle of a handshake takes what is another's, and loses it.
        let candidates = ids.compactMap { users[$0]?.user }
        if candidates.contains(where: { $0.isSecure && $0.receiveRecord(bytes, on: base, from: source) }) {
            return true
        }
        let others = candidates.filter { !$0.isSecure }
        guard others.count > 1, bytes.first == Self.dataRecord else {
            return others.contains { $0.receiveRecord(bytes, on: base, from: source) }
        }
        // Data that came before the end of their handshake: each keeps it, and one of them can open it.
        return others.count { $0.receiveRecord(bytes, on: base, from: source) } > 0
    }
}

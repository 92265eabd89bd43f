import OpenSSLCrypto
import Traversal

/// A relayed address, as a place that checks are sent from: one for each relay and family.
package struct RelayBase: Sendable {
    package let id: UInt32
    /// Where peers send to.
    package let relayed: Endpoint
    /// This machine as the server sees it.
    package let mapped: Endpoint
    /// The server's address.
    package let serverEndpoint: Endpoint
    /// Which way to which server.
    package let server: RelayServer
}

/// What comes of the relays.
package enum RelayPoolEvent {
    case up(RelayBase)
    /// Nothing more goes by that base. Nil: it was closed as asked.
    case down(RelayBase, RelayFailure?)
    /// The bytes are there for the time of the call.
    case received(base: UInt32, UnsafeRawBufferPointer, from: Endpoint)
    case permitted(base: UInt32, IPAddress)
    /// The server does not relay to that peer.
    case refused(base: UInt32, IPAddress, TURNFailure)
    case peerError(base: UInt32, Endpoint, type: UInt8, code: UInt8)
    /// A server did not give a relay; it may be tried again.
    case failed(RelayFailure)
    /// Every server has been heard, or has failed, since the last change of the list: there is nothing to wait for.
    case settled
    /// The credential of that server is not renewed.
    case renewalRefused(RelayFailure)
}

/// Relays on several servers by all transports. Those of one server begin one behind the other, UDP first; the first
/// that gives an allocation is kept, and the slower kinds are given up.
package final class RelayPool {
    /// Until the way to a server is used when nothing else goes by it.
    var keepAliveNanoseconds = Limits.keepAlive {
        didSet { for entry in entries { entry.link?.keepAliveNanoseconds = keepAliveNanoseconds } }
    }

    private let network: any ClientNetwork
    private let contexts: SecureContexts
    private var receive: ((RelayPoolEvent) -> Void)?
    private var alarm: (any Alarm)?
    private var entries: [RelayEntry] = []
    private var bases: [UInt32: (base: RelayBase, entry: RelayEntry)] = [:]
    private var nextID: UInt32
    private var isSettled = true

    /// - Parameter firstID: bases are numbered from here on, and no number is given twice.
    package init(
        firstID: UInt32,
        network: any ClientNetwork,
        contexts: SecureContexts,
        _ receive: @escaping (RelayPoolEvent) -> Void
    ) {
        nextID = firstID
        self.network = network
        self.contexts = contexts
        self.receive = receive
        alarm = network.alarm { [weak self] in self?.wake() }
    }

    deinit { for entry in entries { entry.link?.close() } }

    /// The relays that serve, in the order in which they came up.
    package var up: [RelayBase] { bases.values.map(\.base).sorted { $0.id < $1.id } }

    /// Why servers that give no relay do not, as of their last attempts.
    package var failures: [RelayFailure] { entries.filter { !$0.isUp }.compactMap(\.failure) }

    /// The servers to use from here on. Those that are known stay as they are, and get the new credential if it is
    /// another one; those that are not in the list any more are left.
    package func use(_ servers: [RelayServer]) {
        let now = network.nowNanoseconds
        var kept: [RelayEntry] = []
        for server in servers where !kept.contains(where: { $0.server.isSameWay(as: server) }) {
            guard kept.count < ClientLimits.relayServers else { break }
            guard let known = entries.first(where: { $0.server.isSameWay(as: server) }) else {
                kept.append(RelayEntry(server, at: now &+ ClientLimits.transportStagger &* server.transport.rank))
                continue
            }
            kept.append(known)
            guard !known.server.credential.isSame(as: server.credential, with: network.cryptography) else { continue }
            known.server = server
            if let link = known.link {
                link.renew(server.credential)
            } else {
                known.pauseNanoseconds = ClientLimits.relayRetry
                known.nextAt = now
            }
        }
        for entry in entries where !kept.contains(where: { $0 === entry }) { stop(entry, because: nil) }
        entries = kept
        isSettled = false
        wake()
    }

    /// This machine has these addresses, which are others than before: relays go along where their servers let them,
    /// and others begin anew.
    package func move(to addresses: [IPAddress]) {
        for entry in entries {
            guard let link = entry.link, !link.move(to: addresses) else { continue }
            stop(entry, because: nil)
        }
        retry()
    }

    /// What failed may work: servers that give no relay are asked at once.
    package func retry() {
        let now = network.nowNanoseconds
        for entry in entries where entry.link == nil && entry.failure?.mayPass ?? true {
            entry.pauseNanoseconds = ClientLimits.relayRetry
            entry.nextAt = min(entry.nextAt, now &+ ClientLimits.transportStagger &* entry.server.transport.rank)
        }
        wake()
    }

    /// Has every server say whether its relay is there still. One that has lost it gives another, and beside one that
    /// does not answer others begin.
    package func check() { for entry in entries where entry.isUp { entry.link?.check() } }

    /// A path waits: what is under way is sent again at once, and servers that could not be reached are tried again.
    package func hurry() {
        let now = network.nowNanoseconds
        for entry in entries {
            if let link = entry.link {
                link.hurry()
            } else if entry.nextAt != .max, entry.failure?.isOfTheWay ?? true {
                entry.nextAt = min(entry.nextAt, now)
            }
        }
        wake()
    }

    @discardableResult
    package func send(
        _ data: UnsafeRawBufferPointer,
        from base: UInt32,
        to peer: Endpoint
    ) -> TURNClient.SendOutcome {
        bases[base]?.entry.link?.send(data, to: peer) ?? .noAllocation
    }

    /// - Returns: whether packets from that address come through already; else `.permitted` or `.refused` follows.
    @discardableResult
    package func permit(_ peer: IPAddress, at base: UInt32) -> Bool {
        bases[base]?.entry.link?.permit(peer) ?? false
    }

    /// Takes one `permit` back.
    package func release(_ peer: IPAddress, at base: UInt32) { bases[base]?.entry.link?.release(peer) }

    package func bindChannel(from base: UInt32, to peer: Endpoint) {
        bases[base]?.entry.link?.bindChannel(to: peer)
    }

    /// Gives all allocations back. Nothing is told any more.
    package func close() {
        receive = nil
        alarm?.set(at: nil)
        alarm = nil
        for entry in entries { entry.link?.close() }
        entries = []
        bases = [:]
    }

    // MARK: Beginning and ending

    private func wake() {
        let now = network.nowNanoseconds
        for entry in entries where entry.link == nil && entry.nextAt <= now { begin(entry) }
        setAlarm()
        settle()
    }

    private func begin(_ entry: RelayEntry) {
        entry.nextAt = .max
        guard isWanted(entry) else { return }
        entry.isSilent = false
        let link = RelayLink(entry.server, network: network, contexts: contexts) { [weak self, weak entry] event in
            guard let self, let entry else { return }
            self.take(event, of: entry)
        }
        entry.link = link
        link.keepAliveNanoseconds = keepAliveNanoseconds
        link.start()
    }

    /// Whether a relay of this kind would be of use besides those that are up.
    private func isWanted(_ entry: RelayEntry) -> Bool {
        let up = entries.filter { $0.isUp && !$0.isSilent }
        if let same = up.filter({ $0.host == entry.host }).map(\.server.transport.rank).min() {
            return entry.server.transport.rank < same
        }
        return Set(up.map(\.host)).count < ClientLimits.relayHosts
    }

    private func take(_ event: RelayEvent, of entry: RelayEntry) {
        switch event {
        case .allocated(let allocation): allocated(allocation, entry)
        case .received(let bytes, let peer):
            entry.isSilent = false
            guard let id = entry.base(of: peer.family) else { return }
            receive?(.received(base: id, bytes, from: peer))
        case .permitted(let peers):
            for peer in peers {
                if let id = entry.base(of: peer.family) { receive?(.permitted(base: id, peer)) }
            }
        case .refused(let peer, let failure):
            guard let id = entry.base(of: peer.family) else { return }
            receive?(.refused(base: id, peer, failure))
        case .peerError(let peer, let type, let code):
            guard let id = entry.base(of: peer.family) else { return }
            receive?(.peerError(base: id, peer, type: type, code: code))
        case .silent: fallSilent(entry)
        case .renewed: break
        case .renewalRefused(let failure): receive?(.renewalRefused(failure))
        case .ended(let failure): ended(failure, entry)
        }
    }

    private func fallSilent(_ entry: RelayEntry) {
        guard entry.isUp, !entry.isSilent else { return }
        entry.isSilent = true
        retry()
    }

    private func allocated(_ allocation: TURNAllocation, _ entry: RelayEntry) {
        entry.failure = nil
        // One that keeps being lost is asked for less and less often.
        entry.pauseNanoseconds = entry.upSince == 0 ? ClientLimits.relayReturn : entry.pauseNanoseconds
        entry.upSince = network.nowNanoseconds
        for relayed in allocation.relayed {
            let base = RelayBase(
                id: nextID,
                relayed: relayed,
                mapped: allocation.mapped,
                serverEndpoint: entry.link?.serverEndpoint ?? allocation.mapped,
                server: entry.server
            )
            nextID &+= 1
            bases[base.id] = (base, entry)
            entry.bases.append(base)
        }
        // One that is slower, or a server too many, is not waited for.
        for other in entries where other !== entry && !other.isUp && !isWanted(other) {
            other.link?.close()
            other.link = nil
            other.nextAt = .max
        }
        for base in entry.bases { receive?(.up(base)) }
        settle()
    }

    private func ended(_ failure: RelayFailure?, _ entry: RelayEntry) {
        let wasUp = entry.isUp
        stop(entry, because: failure)
        guard receive != nil else { return }
        if let failure {
            entry.failure = failure
            if !wasUp { receive?(.failed(failure)) }
        }
        let now = network.nowNanoseconds
        if wasUp, now &- entry.upSince >= ClientLimits.stableRelay {
            entry.pauseNanoseconds = ClientLimits.relayReturn
            entry.nextAt = now
        } else if failure?.mayPass ?? true {
            entry.nextAt = now &+ entry.pauseNanoseconds
            entry.pauseNanoseconds = min(entry.pauseNanoseconds &* 2, ClientLimits.longestRelayRetry)
        }
        // What was left aside as long as this one served has its turn.
        if wasUp {
            for other in entries where other !== entry && other.link == nil && other.nextAt == .max {
                guard other.failure?.mayPass ?? true else { continue }
                other.nextAt = now &+ ClientLimits.transportStagger &* other.server.transport.rank
            }
        }
        setAlarm()
        settle()
    }

    private func stop(_ entry: RelayEntry, because failure: RelayFailure?) {
        entry.link?.close()
        entry.link = nil
        let gone = entry.bases
        entry.bases = []
        for base in gone {
            bases[base.id] = nil
            receive?(.down(base, failure))
        }
    }

    private func setAlarm() {
        let next = entries.lazy.filter { $0.link == nil }.map(\.nextAt).min() ?? .max
        alarm?.set(at: next == .max ? nil : next)
    }

    /// Nothing is under way for the first time.
    private func settle() {
        guard !isSettled else { return }
        let waits = entries.contains { entry in
            !entry.isUp && (entry.link != nil || entry.failure == nil && entry.nextAt != .max)
        }
        guard !waits else { return }
        isSettled = true
        receive?(.settled)
    }
}

/// One server by one transport, as the pool knows it.
private final class RelayEntry {
    var server: RelayServer
    let host: String
    var link: RelayLink?
    var bases: [RelayBase] = []
    var failure: RelayFailure?
    /// When it is to be tried; `.max` while it is not to be, or is under way.
    var nextAt: UInt64
    var pauseNanoseconds = ClientLimits.relayRetry
    var upSince: UInt64 = 0
    /// It is up, and its server does not answer.
    var isSilent = false

    init(_ server: RelayServer, at time: UInt64) {
        self.server = server
        host = server.host.lowercased()
        nextAt = time
    }

    var isUp: Bool { !bases.isEmpty }

    func base(of family: AddressFamily) -> UInt32? { bases.first { $0.relayed.family == family }?.id }
}

extension TURNConfiguration.Transport {
    /// UDP has no queue in which a lost packet holds up others, and TLS and DTLS are for where nothing else comes
    /// through.
    fileprivate var rank: UInt64 {
        switch self {
        case .udp: 0
        case .tcp: 1
        case .tls: 2
        case .dtls: 3
        }
    }
}

extension TURNCredential {
    /// Both are ours, but secrets are compared in constant time everywhere.
    fileprivate func isSame(as other: TURNCredential, with cryptography: any Cryptography) -> Bool {
        let (mine, theirs) = (Array(password.utf8), Array(other.password.utf8))
        let isSamePassword = mine.withUnsafeBytes { mine in
            theirs.withUnsafeBytes { cryptography.areEqual(mine, $0) }
        }
        return username == other.username && isSamePassword
    }
}

import Signaling
import Traversal

extension PeerClient {
    /// What the server remembers of the peer's network and this one; it comes with an offer, in either direction.
    func takeMemory(_ payload: JSONValue, _ key: SessionKey) -> Bool {
        guard let memory = PathMemory(payload) else { return false }
        if pathMemories.count >= ClientLimits.peersRemembered { pathMemories.removeAll() }
        pathMemories[key] = memory
        return true
    }

    func pathMemory(from local: PeerID, to remote: PeerID) -> PathMemory? {
        pathMemories[SessionKey(local: local, remote: remote)]
    }

    func report(_ method: PathMethod, worked: Bool, milliseconds: UInt64, from local: PeerID, to remote: PeerID) {
        guard takesReports, let signaling else { return }
        signaling.report(method, worked: worked, milliseconds: milliseconds, from: local, to: remote) {
            [weak self] error in
            // A server that keeps no memory is not troubled again.
            if error.reason == .badType { self?.takesReports = false }
        }
    }
}

extension PeerSession {
    /// What the server remembers of paths between the two networks; nil where that is nothing.
    var pathMemory: PathMemory? { host.pathMemory(from: local, to: remote) }

    /// One of the two reports what became of the connection: who made the offer.
    private var isReporter: Bool { link?.isOfferer == true && !isRelayOnly && hasTurnpikePeer }

    /// A path without a relay was found.
    func reportDirect(_ path: ICEPath) {
        guard isReporter, !hasReported else { return }
        hasReported = true
        let method: PathMethod =
            switch Path(path).method {
            case .direct: .direct
            case .udpHolePunch: foundBy(path) ?? .udpHolePunch
            case .tcpHolePunch: .tcpHolePunch
            case .turnRelay: .relay
            }
        report(method, worked: true)
    }

    /// Asked now and then: an attempt that has led to nothing but a relay for so long is worth remembering too.
    func reportRelay(now: UInt64) {
        guard !hasReported, phase == .open, now &- beganAt >= ClientLimits.directPatience, isReporter else { return }
        hasReported = true
        report(punch?.method ?? .udpHolePunch, worked: false)
        report(.relay, worked: true)
    }

    /// What found the path, where it was more than checks from both sides: the search was on the one end or on the
    /// other.
    func foundBy(_ path: ICEPath) -> PathMethod? {
        guard let punch, let method = punch.method else { return nil }
        return punch.hasFound(path.base) || path.remoteType == .peerReflexive ? method : nil
    }

    private func report(_ method: PathMethod, worked: Bool) {
        let milliseconds = (now &- beganAt) / ClientLimits.millisecond
        host.report(method, worked: worked, milliseconds: milliseconds, from: local, to: remote)
    }
}

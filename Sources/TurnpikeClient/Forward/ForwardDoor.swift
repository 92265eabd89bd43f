import DataChannels
import NIOCore
import Traversal

/// Connections that are taken at an address of this machine, and carried to a peer's target.
final class ForwardDoor {
    let peer: PeerID
    let target: ForwardTarget
    private let forwarding: Forwarding
    private let listener: any Channel
    /// Connections that wait for the peer connection, in the order in which they came.
    private var waiting: [ForwardSocket] = []
    private var isAsking = false
    private var isClosed = false
    private var notBefore: UInt64 = 0
    private var pause = ClientLimits.forwardPause
    private lazy var alarm = forwarding.client.network.alarm { [weak self] in self?.ask() }

    init(_ forwarding: Forwarding, _ listener: any Channel, to peer: PeerID, _ target: ForwardTarget) {
        (self.forwarding, self.listener, self.peer, self.target) = (forwarding, listener, peer, target)
    }

    func take(_ socket: ForwardSocket) {
        guard !isClosed, waiting.count < ClientLimits.forwardsWaiting else { return socket.reset() }
        waiting.append(socket)
        // Who goes away meanwhile is not waited for.
        socket.onLoss = { [weak self, weak socket] in self?.waiting.removeAll { $0 === socket } }
        ask()
    }

    /// Connects to the peer, unless the last attempt has just failed.
    func ask() {
        guard !isAsking, !isClosed else { return }
        let now = forwarding.client.now
        guard now >= notBefore else { return alarm.set(at: notBefore) }
        isAsking = true
        _ = forwarding.client.connect(peer, ConnectOptions()) { [weak self] result in self?.take(result) }
    }

    private func take(_ result: Result<PeerSession, ConnectionFailure>) {
        isAsking = false
        let sockets = waiting
        waiting = []
        switch result {
        case .success(let session):
            pause = ClientLimits.forwardPause
            for socket in sockets { forwarding.carry(socket, over: session, to: target) }
        case .failure(let failure):
            guard !isClosed else { break }
            notBefore = forwarding.client.now.addingClamped(pause)
            pause = min(2 * pause, ClientLimits.longestForwardPause)
            forwarding.tell(.unreachable(failure))
            for socket in sockets { socket.reset() }
        }
    }

    func close() {
        isClosed = true
        alarm.set(at: nil)
        listener.close(promise: nil)
        for socket in waiting { socket.reset() }
        waiting = []
    }
}

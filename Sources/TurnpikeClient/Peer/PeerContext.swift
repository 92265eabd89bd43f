import OpenSSLCrypto
import Synchronization
import Traversal

/// What all connections of a client share.
final class PeerContext {
    let network: any ClientNetwork
    let router: PathRouter
    let identity: PeerIdentity
    /// Where records are opened, and where they are sealed. What is in them is used before the next packet.
    let opened: UnsafeMutableRawBufferPointer
    let sealed: UnsafeMutableRawBufferPointer

    init(_ network: any ClientNetwork, router: PathRouter, identity: PeerIdentity) {
        self.network = network
        self.router = router
        self.identity = identity
        opened = .allocate(byteCount: ClientLimits.recordRoomBytes, alignment: 16)
        sealed = .allocate(byteCount: ClientLimits.recordRoomBytes, alignment: 16)
    }

    deinit {
        opened.deallocate()
        sealed.deallocate()
    }
}

/// Says, from any thread, that an association's timers have given it something to do.
final class WakeFlag: Sendable {
    private let flag = Atomic(false)

    func raise() { flag.store(true, ordering: .releasing) }

    func take() -> Bool { flag.exchange(false, ordering: .acquiring) }
}

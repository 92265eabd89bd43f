import DataChannels
import OpenSSLCrypto
import Synchronization
import Traversal

/// What all connections of a client share.
final class PeerContext {
    let network: any ClientNetwork
    let router: PathRouter
    let identity: PeerIdentity
    /// Until a mapping of a NAT is used again.
    var keepAliveNanoseconds: UInt64 = .max
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

    /// Timers of SCTP begin at the time it was told last, and a packet that is not as old as its timer when that
    /// expires is passed over until the next one, which takes twice as long. So it is told before each call, and
    /// rounded up.
    func tellTime() { SCTPStack.shared.advance(to: network.nowNanoseconds &+ ClientLimits.millisecond) }

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

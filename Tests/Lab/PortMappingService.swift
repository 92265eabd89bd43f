import STUN
import TestSupport

/// A router's own address on its network, where it maps ports by PCP and NAT-PMP.
package final class PortMappingService {
    package var server: MappingServer
    package let address: IPAddress
    private unowned let router: Router
    private unowned let internet: Internet
    private let socket: UDPSocket?
    /// Who has asked, and is told of a start.
    private var clients: Set<IPAddress> = []

    init(_ router: Router, _ internet: Internet) {
        (self.router, self.internet) = (router, internet)
        server = MappingServer(externalAddress: router.publicAddress.v4, now: internet.now)
        let prefix = router.inside.pool.prefixV4
        address = IPAddress(v4: prefix | 1)
        let host = router.inside.host("\(router.name), inside", [address])
        socket = host.udp(port: 5_351)
        socket?.onReceive = { [weak self] in self?.take($0) }
    }

    /// It has forgotten everything, and says so.
    func reboot() {
        server.reboot(internet.now)
        apply()
        for client in clients {
            for bytes in server.announcements(internet.now) { socket?.send(bytes, to: Endpoint(client, 5_350)) }
        }
    }

    private func take(_ datagram: Datagram) {
        clients.insert(datagram.from.address)
        guard let answer = server.answer(datagram.bytes, from: datagram.from.address.v4, internet.now) else { return }
        apply()
        socket?.send(answer, to: datagram.from)
    }

    private func apply() {
        router.setExplicit(
            server.mappings.map {
                ExplicitMapping(
                    $0.transport == 17 ? .udp : .tcp,
                    inside: Endpoint(IPAddress(v4: $0.client), $0.internalPort),
                    outside: Endpoint(router.publicAddress, $0.externalPort),
                    expiresAt: $0.expiresAt
                )
            }
        )
    }
}

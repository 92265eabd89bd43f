import STUN

/// What hangs on a network: a host or a router.
protocol Node: AnyObject {
    var name: String { get }
    func receive(_ packet: Packet, at attachment: Attachment)
}

/// Where a node hangs on a network, and by which link.
package final class Attachment {
    package let link: Link
    package unowned let network: Network
    package internal(set) var addresses: [IPAddress] = []
    unowned let node: any Node

    init(_ node: any Node, to network: Network, _ link: Link) {
        self.node = node
        self.network = network
        self.link = link
        link.up.deliver = { [unowned network] in network.carry($0) }
        link.down.deliver = { [unowned self] in self.node.receive($0, at: self) }
        link.up.refuse = { [unowned self] packet, mtu in
            // To the node's own side: what it sent itself, or what it carried for somebody behind it.
            network.internet.complain(.tooBig(mtuBytes: mtu), packet) { self.node.receive($0, at: self) }
        }
        link.down.refuse = { [unowned network] packet, mtu in
            network.internet.complain(.tooBig(mtuBytes: mtu), packet, network.carry)
        }
    }

    func send(_ packet: Packet) { link.up.transmit(packet) }

    /// Makes this the place where packets to the address go.
    package func add(_ address: IPAddress) {
        addresses.append(address)
        network.announce(address, at: self)
        (node as? Host)?.noteAddresses()
    }

    package func remove(_ address: IPAddress) {
        addresses.removeAll { $0 == address }
        network.withdraw(address, at: self)
        (node as? Host)?.noteAddresses()
    }
}

/// A network without loss or delay of its own: those are its links'. The internet's core is one, and so is each LAN.
package final class Network {
    package let name: String
    unowned let internet: Internet
    /// The way out of a network that is not the core.
    package internal(set) unowned var router: Router?
    /// Routers that a packet passes on its way across.
    package var hops: Int
    var pool: AddressPool
    private var owners: [IPAddress: Attachment] = [:]
    /// Sets of addresses between which nothing passes.
    private var partitions: [(Set<IPAddress>, Set<IPAddress>)] = []

    init(_ name: String, in internet: Internet, hops: Int, pool: AddressPool) {
        self.name = name
        self.internet = internet
        self.hops = hops
        self.pool = pool
    }

    func carry(_ packet: Packet) {
        var packet = packet
        let (source, destination) = (packet.source.address, packet.destination.address)
        let isCut = partitions.contains { one, other in
            one.contains(source) && other.contains(destination) || other.contains(source) && one.contains(destination)
        }
        if isCut { return internet.note(.dropped(.partition), packet, at: name) }
        packet.hopLimit -= hops
        if hops > 0, packet.hopLimit <= 0 {
            internet.note(.dropped(.hopLimit), packet, at: name)
            return internet.complain(.hopLimitExceeded, packet, carry)
        }
        if let owner = owners[destination] { return owner.link.down.transmit(packet) }
        if let router { return router.receiveFromInside(packet) }
        internet.note(.dropped(.noRoute), packet, at: name)
    }

    func announce(_ address: IPAddress, at attachment: Attachment) {
        owners[address] = attachment
        router?.announceFromInside(address)
    }

    func withdraw(_ address: IPAddress, at attachment: Attachment) {
        guard owners[address] === attachment else { return }
        owners[address] = nil
        router?.withdrawFromInside(address)
    }

    /// Addresses that nobody has.
    package func newAddresses(v4: Bool, v6: Bool) -> [IPAddress] {
        (v4 ? [pool.takeV4()] : []) + (v6 ? [pool.takeV6()] : [])
    }

    /// Keeps the two sets of addresses of this network apart, until `heal`.
    package func partition(_ one: [IPAddress], from other: [IPAddress]) { partitions.append((Set(one), Set(other))) }

    package func heal() { partitions = [] }
}

import Glibc
import Traversal

/// The addresses of this machine's interfaces.
enum LocalInterfaces {
    /// Those that are up, best first: the ones that the system sends from, then those of real interfaces, then those
    /// that software has made, which lead to containers and virtual machines. Loopback only where there is nothing
    /// else.
    static func addresses() -> [LocalAddress] {
        let sending = Set([AddressFamily.ipv4, .ipv6].compactMap(SystemAddress.sendingAddress).map(\.withoutLink))
        var outside: [(rank: Int, address: LocalAddress)] = []
        var loopback: [LocalAddress] = []
        each { address, name, flags in
            guard flags & UInt32(IFF_UP) != 0, !outside.contains(where: { $0.address.address == address })
            else { return }
            let local = LocalAddress(address: address, interface: name)
            if flags & UInt32(IFF_LOOPBACK) != 0 {
                loopback.append(local)
            } else if flags & UInt32(IFF_RUNNING) != 0 {
                outside.append((rank(local, isSending: sending.contains(address.withoutLink)), local))
            }
        }
        let best = outside.enumerated().sorted { ($0.element.rank, $0.offset) < ($1.element.rank, $1.offset) }
        let found = best.isEmpty ? loopback : best.map(\.element.address)
        return Array(found.prefix(ClientLimits.localAddresses))
    }

    /// Lower is better.
    private static func rank(_ local: LocalAddress, isSending: Bool) -> Int {
        if isSending { return 0 }
        let isVirtual = ["docker", "veth", "br-", "virbr", "vnet", "lxc", "cni", "flannel", "vmnet", "podman"]
            .contains { local.interface.hasPrefix($0) }
        let isOfLink =
            local.address.isIPv4 ? local.address.v4 >> 16 == 0xA9FE : local.address.high >> 54 == 0x3FA
        return 1 + (isOfLink ? 1 : 0) + (isVirtual ? 2 : 0)
    }

    private static func each(_ body: (IPAddress, _ interface: String, _ flags: UInt32) -> Void) {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return }
        defer { freeifaddrs(list) }
        var next = list
        while let entry = next?.pointee {
            next = entry.ifa_next
            guard let pointer = entry.ifa_addr, let endpoint = SystemAddress.endpoint(UnsafePointer(pointer)) else {
                continue
            }
            body(endpoint.address, String(cString: entry.ifa_name), entry.ifa_flags)
        }
    }
}

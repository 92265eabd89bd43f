import STUN

/// How a lab is described. Each call makes something on the network it is called on, and gives it back.
extension Network {
    /// A host with an address of this network.
    /// - Parameter v6: whether it has an IPv6 address too.
    @discardableResult
    package func host(_ name: String, v6: Bool = false, _ quality: LinkQuality? = nil) -> Host {
        var addresses = [pool.takeV4()]
        if v6 { addresses.append(pool.takeV6()) }
        return host(name, addresses, quality)
    }

    /// A host with these addresses.
    @discardableResult
    package func host(_ name: String, _ addresses: [IPAddress], _ quality: LinkQuality? = nil) -> Host {
        let host = Host(name, in: internet)
        host.attach(to: self, addresses, quality ?? (self === internet.core ? .access : .local))
        internet.hosts[name] = host
        return host
    }

    /// A network behind a NAT. IPv6 is not translated, but kept by the firewall.
    /// - Parameter build: says what is in it.
    @discardableResult
    package func nat(
        _ name: String,
        _ behavior: NATBehavior,
        firewall: Firewall = .stateful,
        _ quality: LinkQuality = .access,
        _ build: (Network) -> Void = { _ in }
    ) -> Router {
        router(name, behavior, firewall, quality, build)
    }

    /// A network behind a firewall that translates nothing.
    @discardableResult
    package func firewall(
        _ name: String,
        _ firewall: Firewall = .stateful,
        _ quality: LinkQuality = .access,
        _ build: (Network) -> Void = { _ in }
    ) -> Router {
        router(name, nil, firewall, quality, build)
    }

    private func router(
        _ name: String,
        _ behavior: NATBehavior?,
        _ firewall: Firewall,
        _ quality: LinkQuality,
        _ build: (Network) -> Void
    ) -> Router {
        internet.networkCount += 1
        // Homes have the same addresses everywhere, and a carrier's network those of RFC 6598.
        let isCarrier = behavior?.allocation.isChunked ?? false
        let v4 = behavior == nil ? "40.0.\(internet.networkCount).1" : isCarrier ? "100.64.0.2" : "192.168.1.2"
        let prefix = 0x2A03_0000_0000_0000 | internet.networkCount << 16
        let inside = Network(name, in: internet, hops: 0, pool: AddressPool(v4: v4, v6: prefix))
        let link = Link("\(name)–\(self.name)", quality, in: internet)
        let router = Router(name, from: inside, to: self, behavior, firewall, link)
        internet.routers[name] = router
        build(inside)
        return router
    }

    /// A STUN and TURN server.
    /// - Parameter users: passwords by name.
    @discardableResult
    package func relay(
        _ name: String,
        users: [String: String] = [:],
        v6: Bool = false,
        _ quality: LinkQuality = .access,
        configure: (inout RelayServer.Configuration) -> Void = { _ in }
    ) -> RelayServer {
        let host = server(name, v4Count: 2, v6Count: v6 ? 2 : 0, quality)
        let server = RelayServer(host, users: users, configure)
        internet.servers[name] = server
        return server
    }

    /// A signaling server.
    @discardableResult
    package func rendezvous(
        _ name: String,
        users: [String: String] = [:],
        v6: Bool = false,
        _ quality: LinkQuality = .access,
        configure: (inout Rendezvous.Configuration) -> Void = { _ in }
    ) -> Rendezvous {
        let server = Rendezvous(server(name, v4Count: 1, v6Count: v6 ? 1 : 0, quality), users: users, configure)
        internet.servers[name] = server
        return server
    }

    private func server(_ name: String, v4Count: Int, v6Count: Int, _ quality: LinkQuality) -> Host {
        let addresses =
            (0..<v4Count).map { _ in internet.serverPool.takeV4() }
            + (0..<v6Count).map { _ in internet.serverPool.takeV6() }
        return host(name, addresses, quality)
    }
}

extension Internet {
    package func relay(_ name: String) -> RelayServer {
        guard let server = servers[name] as? RelayServer else { preconditionFailure("there is no relay \(name)") }
        return server
    }

    package func rendezvous(_ name: String) -> Rendezvous {
        guard let server = servers[name] as? Rendezvous else { preconditionFailure("there is no rendezvous \(name)") }
        return server
    }
}

extension NATBehavior.Allocation {
    fileprivate var isChunked: Bool { if case .chunked = self { true } else { false } }
}

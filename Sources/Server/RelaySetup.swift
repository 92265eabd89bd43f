import Accounts
import LinuxIO
import Relay
import STUN
import Settings
import TURN

/// What the operator's settings mean to the relay on this machine.
struct RelaySetup {
    let options: RelayOptions
    let configuration: Configuration
    /// What an operator should know of the settings, though they work.
    let warnings: [String]
    /// What keeps the server from starting, though one that runs goes on without it.
    let problems: [String]

    /// - Throws: `ServerError` where the settings do not fit this machine.
    init(
        _ settings: Settings,
        nonceKeys: NonceKeys,
        secrets: [SharedSecret],
        memory: MemoryPlan
    ) throws(ServerError) {
        let interfaces: [InterfaceAddress]
        let cores: Int
        do throws(SystemCallError) {
            interfaces = try Host.interfaceAddresses().filter(\.isUp)
            cores = try ThreadAffinity.availableCPUs().count
        } catch {
            throw ServerError("cannot ask the kernel about this machine: \(error)")
        }
        let addresses = try RelayAddressPlan(settings, interfaces).addresses
        var listeners = settings.listen.udp.map(Endpoint.init)
        var streamListeners =
            settings.listen.tcp.map {
                StreamAddress(Endpoint($0), isTLS: false, isImplied: settings.listen.implied.contains("listen.tcp"))
            }
            + settings.listen.tls.map {
                StreamAddress(Endpoint($0), isTLS: true, isImplied: settings.listen.implied.contains("listen.tls"))
            }
            + settings.listen.shared.map {
                StreamAddress(Endpoint($0), isTLS: true, isShared: true, isImplied: false)
            }
        // An address that `listen.udp` has too is that listener's, which tells the two apart by the first byte (RFC
        // 7983).
        var dtlsListeners = settings.listen.dtls.filter { $0.port == 0 || !settings.listen.udp.contains($0) }.map {
            DatagramAddress(Endpoint($0), isImplied: settings.listen.implied.contains("listen.dtls"))
        }
        // The default listens on both families. A machine whose kernel has no IPv6 serves what it has, and says so.
        let all = listeners + streamListeners.map(\.endpoint) + dtlsListeners.map(\.endpoint)
        let lacksIPv6 = !Self.hasIPv6 && all.contains(where: \.address.isIPv4)
        if lacksIPv6 {
            listeners.removeAll { $0.isWildcard && !$0.address.isIPv4 }
            streamListeners.removeAll { $0.endpoint.isWildcard && !$0.endpoint.address.isIPv4 }
            dtlsListeners.removeAll { $0.endpoint.isWildcard && !$0.endpoint.address.isIPv4 }
        }
        let plan = DiscoveryPlan(settings, interfaces, listeners: listeners, streamListeners: streamListeners)
        var options = RelayOptions(
            workers: settings.workers == .auto ? cores : settings.workers.number,
            listeners: listeners + plan.listeners,
            alternates: Set(plan.listeners + plan.streamListeners.map(\.endpoint)),
            streamListeners: streamListeners + plan.streamListeners,
            dtlsListeners: dtlsListeners,
            relayAddresses: addresses,
            ports: settings.relay.minPort...settings.relay.maxPort
        )
        options.connections = memory.connections
        options.queueBytes = memory.queueBytes
        self.options = options

        var policy = PeerPolicy()
        policy.allow = settings.relay.allowPeers.map { TURN.AddressRange(lower: $0.lower, upper: $0.upper) }
        policy.deny = settings.relay.denyPeers.map { TURN.AddressRange(lower: $0.lower, upper: $0.upper) }
        // `Settings` has looked at the lengths.
        policy.nat64Prefixes = settings.relay.nat64Prefixes.compactMap {
            NAT64Prefix(IPAddress($0.lower), length: ($0.lower.number ^ $0.upper.number).leadingZeroBitCount)
        }
        policy.allowsLoopback = settings.relay.allowLoopbackPeers
        policy.ownAddresses = Set(interfaces.map(\.address).filter { !$0.isLoopback })
        policy.ownAddresses.formUnion(addresses.map(\.advertised).filter { !$0.isLoopback })
        policy.broadcastAddresses = Set(interfaces.compactMap(\.broadcast))
        var outside = Self.outside(settings.externalAddress, interfaces.map(\.address))
        for address in addresses where address.local != address.advertised {
            outside[address.local] = address.advertised
        }
        policy.ownAddresses.formUnion(outside.values)
        let bound = options.listeners + dtlsListeners.map(\.endpoint) + options.streamListeners.map(\.endpoint)
        for listener in bound where listener.port != 0 {
            policy.listeners.formUnion(Self.reachable(listener, interfaces, outside))
        }

        var configuration = Configuration(realm: settings.realm, nonceKeys: nonceKeys)
        configuration.nonceLifetimeSeconds = UInt64(clamping: settings.auth.nonceLifetimeSeconds)
        configuration.requiresSHA256 = settings.auth.requireSHA256
        configuration.sharedSecrets = secrets.map(\.value)
        configuration.maximumCredentialSeconds = UInt64(clamping: settings.auth.maxCredentialTTLSeconds)
        configuration.policy = policy
        for address in addresses where address.local != address.advertised {
            configuration.insideAddresses[address.advertised] = address.local
        }
        configuration.outsideAddresses = outside
        configuration.discovery = plan.discovery
        configuration.relaysTCP = settings.relay.tcp
        configuration.acceptsWideChannels = settings.relay.rfc5766Channels
        configuration.allowsMobility = settings.relay.mobility
        configuration.alternateServers = settings.relay.alternateServers.map(Endpoint.init)
        for server in configuration.alternateServers
        where server.port == 0 ? policy.ownAddresses.contains(server.address) : policy.listeners.contains(server) {
            throw ServerError(
                "relay.alternate_servers: \(HostAddress(server.address)) is this server itself; name another one"
            )
        }
        configuration.allocationsPerUser = settings.limits.allocationsPerUser
        // An operator's own number is his word; without one, memory has it.
        configuration.allocationsTotal =
            settings.limits.allocationsTotal > 0 ? settings.limits.allocationsTotal : memory.allocations
        configuration.permissionsPerAllocation = settings.limits.permissionsPerAllocation
        configuration.bitsPerSecondPerAllocation = UInt64(clamping: settings.limits.bpsPerAllocation)
        configuration.bitsPerSecondTotal = UInt64(clamping: settings.limits.bpsTotal)
        configuration.unauthenticatedRepliesPerSecond = UInt32(
            clamping: settings.limits.unauthenticatedRepliesPerSecond
        )
        configuration.bindingRepliesPerSecond = UInt32(clamping: settings.limits.bindingRepliesPerSecond)
        self.configuration = configuration
        problems = plan.problems.map { "listen.alternate: " + $0 }
        warnings =
            Self.warnings(settings, addresses) + Self.warnings(settings, memory)
            + (lacksIPv6 ? ["this machine has no IPv6: [::] is not listened on"] : [])
    }

    private static var hasIPv6: Bool {
        do throws(SystemCallError) {
            _ = try UDPSocket.open(isIPv4: false)
            return true
        } catch {
            return error.number != Errno.familyNotSupported
        }
    }

    /// The endpoints a listener is reached at: itself, or every address of this machine for a wildcard; and what stands
    /// for them outside.
    private static func reachable(
        _ listener: Endpoint,
        _ interfaces: [InterfaceAddress],
        _ outside: [IPAddress: IPAddress]
    ) -> [Endpoint] {
        let inside =
            listener.isWildcard
            ? interfaces.map(\.address).filter { $0.isIPv4 == listener.address.isIPv4 } : [listener.address]
        return (inside + inside.compactMap { outside[$0] }).map { Endpoint(address: $0, port: listener.port) }
    }

    /// What clients know this machine's addresses by, where that is another address.
    private static func outside(_ external: Settings.ExternalAddress, _ inside: [IPAddress]) -> [IPAddress: IPAddress] {
        var outside: [IPAddress: IPAddress] = [:]
        switch external {
        case .auto: break
        case .addresses(let addresses):
            for inside in inside where !inside.isLoopback && !inside.isLinkLocal {
                outside[inside] = addresses.first { $0.isIPv4 == inside.isIPv4 }.map(IPAddress.init)
            }
        case .pairs(let pairs):
            for pair in pairs { outside[IPAddress(pair.privateAddress)] = IPAddress(pair.publicAddress) }
        }
        return outside
    }

    private static func warnings(_ settings: Settings, _ memory: MemoryPlan) -> [String] {
        var warnings: [String] = []
        if memory.isTight {
            warnings.append(
                "\(memory.origin) has \(memory.bytes >> 20) MiB for the server, which is little: "
                    + "it takes \(memory.allocations) allocations and \(memory.connections) connections"
            )
        }
        if settings.limits.allocationsTotal > memory.allocations {
            warnings.append(
                "limits.allocations_total is \(settings.limits.allocationsTotal), and memory is enough for "
                    + "\(memory.allocations): lower it, or give the server more"
            )
        }
        return warnings
    }

    private static func warnings(_ settings: Settings, _ addresses: [RelayAddress]) -> [String] {
        var warnings: [String] = []
        if settings.relay.allowLoopbackPeers {
            warnings.append("relay.allow_loopback_peers is on: users reach every service on this machine's loopback")
        }
        if !settings.relay.allowPeers.isEmpty {
            warnings.append(
                "relay.allow_peers opens ranges that are closed by default: users reach the hosts in them"
            )
        }
        let isPrivate = addresses.allSatisfy {
            PeerPolicy().decide($0.advertised) != .allowed && !$0.advertised.isLoopback
        }
        if isPrivate {
            warnings.append(
                "every relay address is private: behind 1:1 NAT set external_address to the public one, or peers "
                    + "outside cannot be reached"
            )
        }
        return warnings
    }
}

/// Which addresses relays are bound to, and what clients are told of them.
private struct RelayAddressPlan {
    let addresses: [RelayAddress]

    init(_ settings: Settings, _ interfaces: [InterfaceAddress]) throws(ServerError) {
        let locals = try Self.locals(settings, interfaces)
        let alternates = settings.listen.alternate.map { IPAddress($0.host) }
        addresses = try Self.advertise(locals, settings.externalAddress, alternates)
    }

    /// Named addresses, else those of the listeners, else every address of this machine that others can reach.
    private static func locals(
        _ settings: Settings,
        _ interfaces: [InterfaceAddress]
    ) throws(ServerError) -> [IPAddress] {
        if case .list(let list) = settings.relay.addresses {
            let locals = list.map(IPAddress.init)
            for local in locals where !interfaces.contains(where: { $0.address == local }) && !local.isLoopback {
                throw ServerError(
                    "relay.addresses: this machine has no address \(HostAddress(local)); name one that it has, or auto"
                )
            }
            return locals
        }
        var locals: [IPAddress] = []
        let listen = settings.listen
        for listener in listen.udp + listen.tcp + listen.tls + listen.dtls + listen.shared {
            let address = IPAddress(listener.host)
            if !listener.host.isUnspecified {
                locals.append(address)
                continue
            }
            locals += interfaces.filter {
                $0.isIPv4 == address.isIPv4 && !$0.isLoopback && !$0.address.isLinkLocal
            }.map(\.address)
        }
        var unique: [IPAddress] = []
        for local in locals where !unique.contains(local) { unique.append(local) }
        // A machine without a network, as one on a desk, serves itself.
        if unique.isEmpty { unique = interfaces.filter(\.isLoopback).map(\.address) }
        guard !unique.isEmpty else {
            throw ServerError(
                "this machine has no address to relay from; bring an interface up, or name relay.addresses"
            )
        }
        return unique
    }

    private static func advertise(
        _ locals: [IPAddress],
        _ external: Settings.ExternalAddress,
        _ alternates: [IPAddress]
    ) throws(ServerError) -> [RelayAddress] {
        switch external {
        case .auto:
            return locals.map { RelayAddress(local: $0, advertised: $0) }
        case .addresses(let addresses):
            return locals.map { local in
                let outside = addresses.first { $0.isIPv4 == local.isIPv4 }.map(IPAddress.init)
                return RelayAddress(local: local, advertised: outside ?? local)
            }
        case .pairs(let pairs):
            // Clients of NAT discovery are told of its second address, though nothing may be relayed from there.
            let known = locals + alternates
            for pair in pairs where !known.contains(IPAddress(pair.privateAddress)) {
                throw ServerError(
                    "external_address: \(pair.privateAddress) is no relay address of this machine; the pair is "
                        + "public/private, and the private one must be in relay.addresses"
                )
            }
            guard Set(pairs.map(\.privateAddress)).count == pairs.count,
                Set(pairs.map(\.publicAddress)).count == pairs.count
            else {
                throw ServerError("external_address: an address stands in two pairs; write one pair for each address")
            }
            return locals.map { local in
                let pair = pairs.first { IPAddress($0.privateAddress) == local }
                return RelayAddress(local: local, advertised: pair.map { IPAddress($0.publicAddress) } ?? local)
            }
        }
    }
}

extension IPAddress {
    init(_ host: HostAddress) { self.init(high: host.high, low: host.low, isIPv4: host.isIPv4) }

    var isLoopback: Bool { HostAddress(self).isLoopback }
    var isLinkLocal: Bool { isIPv4 ? v4 >> 16 == 0xA9FE : HostAddress(self).isLinkLocalIPv6 }
}

extension HostAddress {
    init(_ address: IPAddress) { self.init(high: address.high, low: address.low, isIPv4: address.isIPv4) }
}

extension Endpoint {
    init(_ address: SocketAddress) { self.init(address: IPAddress(address.host), port: address.port) }
}

extension SocketAddress {
    init(_ endpoint: Endpoint) { self.init(host: HostAddress(endpoint.address), port: endpoint.port) }
}

extension TURN.AddressRange {
    init(lower: HostAddress, upper: HostAddress) {
        self.init(
            lowerHigh: lower.high,
            lowerLow: lower.low,
            upperHigh: upper.high,
            upperLow: upper.low
        )
    }
}

extension InterfaceAddress {
    var address: IPAddress { IPAddress(high: high, low: low, isIPv4: isIPv4) }

    var broadcast: IPAddress? {
        broadcastHigh == 0 && broadcastLow == 0 ? nil : IPAddress(high: broadcastHigh, low: broadcastLow, isIPv4: true)
    }
}

extension Settings.WorkerCount {
    /// 1 where it is not said.
    var number: Int {
        switch self {
        case .auto: 1
        case .count(let count): count
        }
    }
}

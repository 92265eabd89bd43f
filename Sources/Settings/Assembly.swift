/// The settings while they are being put together, with the place each value came from.
struct Assembly {
    var settings = Settings()
    var diagnostics: [Diagnostic] = []
    private(set) var places: [String: Place] = [:]

    var isSound: Bool { !diagnostics.contains { $0.severity == .error } }

    /// Every key with its value and what decided it, in the order of the table.
    var origins: [SettingOrigin] {
        KeyTable.keys.map {
            SettingOrigin(key: $0.path, value: $0.value(settings), origin: (places[$0.path] ?? .builtIn).origin)
        }
    }

    /// Sources come in rising order of precedence: what is applied last holds.
    mutating func apply(_ key: SettingsKey, _ raw: RawValue, from place: Place) {
        do throws(ValueProblem) {
            try key.apply(raw, &settings)
            places[key.path] = place
        } catch {
            refuse("\(key.path): \(error.message)", at: place.moved(to: error))
        }
    }

    mutating func refuse(_ message: String, at place: Place) {
        diagnostics.append(Diagnostic(severity: .error, message: message, place: place))
    }

    /// The rules that hold between values rather than for one.
    mutating func checkRulesBetweenKeys() {
        let relay = settings.relay
        if relay.minPort > relay.maxPort {
            let key = places["relay.min_port"] == nil ? "relay.max_port" : "relay.min_port"
            refuse(
                "\(key): the range from relay.min_port \(relay.minPort) to relay.max_port \(relay.maxPort) is empty; "
                    + "raise the one or lower the other",
                at: places[key] ?? .builtIn
            )
        }
        // Who moves the one away, to loopback or to another port, does not mean to leave the other where everybody
        // comes by.
        if places["listen.tcp"] == nil { settings.listen.tcp = settings.listen.udp }
        var hosts: [HostAddress] = []
        for listener in settings.listen.udp where !hosts.contains(listener.host) { hosts.append(listener.host) }
        func everywhere(_ port: UInt16) -> [SocketAddress] { hosts.map { SocketAddress(host: $0, port: port) } }
        if places["listen.tls"] == nil { settings.listen.tls = everywhere(5349) }
        if places["listen.dtls"] == nil { settings.listen.dtls = everywhere(5349) }
        if places["listen.https"] == nil { settings.listen.https = everywhere(8443) }
        settings.listen.implied = settings.listen.implied.filter { places[$0] == nil }
        settleSharedPorts()
        if (settings.tls.certificate == nil) != (settings.tls.privateKey == nil) {
            let missing = settings.tls.certificate == nil ? "certificate" : "private_key"
            let given = settings.tls.certificate == nil ? "private_key" : "certificate"
            refuse(
                "tls.\(given): stands without tls.\(missing); write both, or neither for a self-signed certificate",
                at: places["tls.\(given)"] ?? .builtIn
            )
        }
        if settings.listen.udp.isEmpty, settings.listen.tcp.isEmpty, settings.listen.tls.isEmpty,
            settings.listen.dtls.isEmpty, settings.listen.shared.isEmpty
        {
            refuse(
                "listen.udp: is empty, so the server would listen nowhere; write 0.0.0.0:3478",
                at: places["listen.udp"] ?? .builtIn
            )
        }
        for alternate in settings.listen.alternate {
            if let problem = problem(of: alternate) {
                refuse("listen.alternate: \(alternate) \(problem)", at: places["listen.alternate"] ?? .builtIn)
            }
        }
        if let local = relay.alternateServers.first(where: \.host.isLoopback), let open = firstListenerBeyondLoopback {
            refuse(
                "relay.alternate_servers: \(local.host) is loopback, where clients of \(open.key) \(open.address) "
                    + "would find themselves; write an address that they can reach",
                at: places["relay.alternate_servers"] ?? .builtIn
            )
        }
        if relay.allowLoopbackPeers, let open = firstListenerBeyondLoopback {
            refuse(
                "relay.allow_loopback_peers: true is refused while \(open.key) has \(open.address), which is not "
                    + "loopback; it is for tests: listen on 127.0.0.1 and [::1] only, or write false",
                at: places["relay.allow_loopback_peers"] ?? .builtIn
            )
        }
    }

    /// A port that TURN and HTTPS share is nobody else's: the kernel would give a part of the clients to either.
    private mutating func settleSharedPorts() {
        let shared = settings.listen.shared.filter { $0.port != 0 }
        let lists: [(key: String, path: WritableKeyPath<Settings.Listen, [SocketAddress]>)] = [
            ("listen.tcp", \.tcp), ("listen.tls", \.tls), ("listen.https", \.https), ("listen.metrics", \.metrics),
        ]
        for (key, path) in lists {
            let taken = settings.listen[keyPath: path].filter { address in shared.contains { $0.overlaps(address) } }
            guard let first = taken.first else { continue }
            // What nobody wrote makes room.
            guard places[key] != nil else {
                settings.listen[keyPath: path].removeAll { taken.contains($0) }
                continue
            }
            refuse(
                "listen.shared: has the port of \(first) in \(key), which it would be in the way of; "
                    + "remove one of them",
                at: places["listen.shared"] ?? .builtIn
            )
        }
    }

    /// What keeps NAT behaviour discovery from working with this second address; nil where nothing does.
    private func problem(of alternate: SocketAddress) -> String? {
        let family = alternate.isIPv4 ? "IPv4" : "IPv6"
        let listen = settings.listen
        guard settings.natDiscovery else {
            return "is for NAT discovery, and nat_discovery is false; remove the one or the other"
        }
        guard listen.udp.contains(where: { $0.isIPv4 == alternate.isIPv4 }) else {
            return "has no \(family) listener beside it in listen.udp; add one, or remove it"
        }
        guard let primary = listen.primary(of: alternate) else {
            return "has the address of listen.udp; name a second address of this machine"
        }
        if primary.port == 0 {
            return "needs a fixed port in listen.udp, which has \(primary); write one such as 3478"
        }
        if primary.port == alternate.port {
            return "has the port of \(primary) in listen.udp; choose a second port, such as 3479"
        }
        if listen.tls.contains(where: { $0.isIPv4 == alternate.isIPv4 && $0.port == alternate.port }) {
            return "has a port of listen.tls; choose another port, such as 3479"
        }
        if listen.shared.contains(where: { $0.isIPv4 == alternate.isIPv4 && $0.port == alternate.port }) {
            return "has a port of listen.shared; choose another port, such as 3479"
        }
        if case .addresses(let outside) = settings.externalAddress,
            outside.contains(where: { $0.isIPv4 == alternate.isIPv4 })
        {
            return "is a second address, and external_address names one for all; write PUBLIC/PRIVATE pairs there"
        }
        return nil
    }

    private var firstListenerBeyondLoopback: (key: String, address: SocketAddress)? {
        let served = [
            ("listen.udp", settings.listen.udp), ("listen.tcp", settings.listen.tcp),
            ("listen.tls", settings.listen.tls), ("listen.dtls", settings.listen.dtls),
            ("listen.alternate", settings.listen.alternate), ("listen.https", settings.listen.https),
            ("listen.shared", settings.listen.shared), ("listen.metrics", settings.listen.metrics),
        ]
        for (key, addresses) in served {
            if let address = addresses.first(where: { !$0.host.isLoopback }) { return (key, address) }
        }
        return nil
    }
}

extension Place {
    /// The place of a part of the value that stands here.
    fileprivate func moved(to problem: ValueProblem) -> Place {
        guard case .file(let name, _, _) = self, let line = problem.line else { return self }
        return .file(name: name, line: line, column: problem.column)
    }
}

/// The settings while they are being put together, with the place each value came from.
struct Assembly {
    var settings = Settings()
    var diagnostics: [Diagnostic] = []
    private(set) var places: [String: Place] = [:]
    /// Keys of features to come that ask for something, with what they would listen on if that is what they are about.
    private var planned: [String: (place: Place, listeners: [SocketAddress])] = [:]

    var isSound: Bool { !diagnostics.contains { $0.severity == .error } }

    /// Every served key with its value and what decided it, in the order of the table.
    var origins: [SettingOrigin] {
        KeyTable.keys.compactMap { key in
            key.value(settings).map {
                SettingOrigin(key: key.path, value: $0, origin: (places[key.path] ?? .builtIn).origin)
            }
        }
    }

    /// Sources come in rising order of precedence: what is applied last holds.
    mutating func apply(_ key: SettingsKey, _ raw: RawValue, from place: Place) {
        if !key.isServed, raw.asksForNothing {
            planned[key.path] = nil
            return
        }
        do throws(ValueProblem) {
            try key.apply(raw, &settings)
            if key.isServed {
                places[key.path] = place
            } else {
                let listeners = key.path.hasPrefix("listen.") ? try ValueForm.endpoints.read(raw) : []
                planned[key.path] = (place, listeners)
            }
        } catch {
            refuse("\(key.path): \(error.message)", at: place.moved(to: error))
        }
    }

    /// Says which keys in effect do nothing yet.
    mutating func warnOfPlannedKeys() {
        for key in KeyTable.keys {
            guard let place = planned[key.path]?.place else { continue }
            let message = "\(key.path): this version does not serve it yet, so it has no effect"
            diagnostics.append(Diagnostic(severity: .warning, message: message, place: place))
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
        if (settings.tls.certificate == nil) != (settings.tls.privateKey == nil) {
            let missing = settings.tls.certificate == nil ? "certificate" : "private_key"
            let given = settings.tls.certificate == nil ? "private_key" : "certificate"
            refuse(
                "tls.\(given): stands without tls.\(missing); write both, or neither for a self-signed certificate",
                at: places["tls.\(given)"] ?? .builtIn
            )
        }
        if settings.listen.udp.isEmpty, settings.listen.tcp.isEmpty, settings.listen.tls.isEmpty,
            settings.listen.dtls.isEmpty
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
            ("listen.metrics", settings.listen.metrics),
        ]
        let later = planned.mapValues(\.listeners).sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        for (key, addresses) in served + later {
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

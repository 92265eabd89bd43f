/// One key of the configuration: its path, and what becomes of what is written for it.
package struct SettingsKey: Sendable {
    /// Levels joined by dots: `relay.min_port`.
    package let path: String
    /// Checks the value, and puts it where it belongs.
    let apply: @Sendable (RawValue, inout Settings) throws(ValueProblem) -> Void
    /// The value in effect.
    let value: @Sendable (Settings) -> SettingValue

    /// `TURNPIKE_RELAY_MIN_PORT` for `relay.min_port`.
    package var environmentName: String {
        "TURNPIKE_" + path.uppercased().replacing(".", with: "_")
    }

    /// A key whose value goes to `target`, whose initial value in `Settings` is the default.
    static func served<Value>(
        _ path: String,
        _ form: ValueForm<Value>,
        _ target: any WritableKeyPath<Settings, Value> & Sendable
    ) -> SettingsKey {
        SettingsKey(
            path: path,
            apply: { raw, settings throws(ValueProblem) in settings[keyPath: target] = try form.read(raw) },
            value: { form.show($0[keyPath: target]) }
        )
    }
}

/// Every key there is.
package enum KeyTable {
    package static let keys: [SettingsKey] = [
        .served("realm", .realm, \.realm),
        .served("data_dir", .path, \.dataDirectory),
        .served("workers", .threads(1...256), \.workers),
        .served("listen.udp", .endpoints, \.listen.udp),
        .served("listen.tcp", .endpoints, \.listen.tcp),
        .served("listen.tls", .endpoints, \.listen.tls),
        .served("listen.dtls", .endpoints, \.listen.dtls),
        .served("listen.https", .endpoints, \.listen.https),
        .served("listen.shared", .endpoints, \.listen.shared),
        .served("listen.metrics", .endpoints, \.listen.metrics),
        .served("listen.alternate", .alternates, \.listen.alternate),
        .served("external_address", .externalAddress, \.externalAddress),
        .served("host_name", .optionalHostName, \.hostName),
        .served("relay.addresses", .relayAddresses, \.relay.addresses),
        .served("relay.min_port", .port(from: 1024), \.relay.minPort),
        .served("relay.max_port", .port(from: 1024), \.relay.maxPort),
        .served("relay.allow_peers", .allowedRanges, \.relay.allowPeers),
        .served("relay.deny_peers", .deniedRanges, \.relay.denyPeers),
        .served("relay.nat64_prefixes", .nat64Prefixes, \.relay.nat64Prefixes),
        .served("relay.allow_loopback_peers", .bool, \.relay.allowLoopbackPeers),
        .served("relay.alternate_servers", .alternateServers, \.relay.alternateServers),
        .served("relay.tcp", .bool, \.relay.tcp),
        .served("relay.mobility", .bool, \.relay.mobility),
        .served("relay.rfc5766_channels", .bool, \.relay.rfc5766Channels),
        .served("nat_discovery", .bool, \.natDiscovery),
        .served("tls.certificate", .optionalPath, \.tls.certificate),
        .served("tls.private_key", .optionalPath, \.tls.privateKey),
        // RFC 8656 section 5 wants a nonce to expire at least hourly; an operator with idle clients may stretch it.
        .served("auth.nonce_lifetime", .duration(1...86_400), \.auth.nonceLifetimeSeconds),
        .served("auth.require_sha256", .bool, \.auth.requireSHA256),
        .served("auth.max_credential_ttl", .duration(1...366 * 86_400), \.auth.maxCredentialTTLSeconds),
        .served("limits.allocations_per_user", .integer(1...1_000_000), \.limits.allocationsPerUser),
        .served("limits.allocations_total", .integer(0...10_000_000), \.limits.allocationsTotal),
        .served("limits.permissions_per_allocation", .integer(1...65_535), \.limits.permissionsPerAllocation),
        .served("limits.bps_per_allocation", .integer(0...400_000_000_000), \.limits.bpsPerAllocation),
        .served("limits.bps_total", .integer(0...400_000_000_000), \.limits.bpsTotal),
        .served("limits.memory_bytes", .integer(0...1 << 50), \.limits.memoryBytes),
        // Never 0: without a challenge no client can authenticate at all.
        .served(
            "limits.unauthenticated_replies_per_second",
            .integer(1...1_000_000),
            \.limits.unauthenticatedRepliesPerSecond
        ),
        .served("limits.binding_replies_per_second", .integer(1...10_000_000), \.limits.bindingRepliesPerSecond),
        .served("signaling.enabled", .bool, \.signaling.isEnabled),
        .served("signaling.allow_plaintext", .bool, \.signaling.allowsPlaintext),
        .served("signaling.allowed_origins", .origins, \.signaling.allowedOrigins),
        // A megabyte is far beyond any session description, and a frame is held whole until it is there.
        .served("signaling.max_message_bytes", .integer(1_024...1_048_576), \.signaling.maxMessageBytes),
        .served("signaling.messages_per_second", .integer(1...1_000_000), \.signaling.messagesPerSecond),
        .served("signaling.burst", .integer(1...1_000_000), \.signaling.burst),
        .served("signaling.connections_per_user", .integer(1...1_000_000), \.signaling.connectionsPerUser),
        .served("signaling.connections_per_address", .integer(1...1_000_000), \.signaling.connectionsPerAddress),
        .served("signaling.peer_timeout", .duration(1...86_400), \.signaling.peerTimeoutSeconds),
        .served("signaling.resume_window", .duration(0...86_400), \.signaling.resumeWindowSeconds),
        .served("signaling.threads", .threads(1...64), \.signaling.threads),
        .served("admin.socket", .optionalPath, \.admin.socket),
        .served("log.level", .choice, \.log.level),
        .served("log.format", .choice, \.log.format),
        .served("log.addresses", .choice, \.log.addresses),
    ]

    static let byPath = Dictionary(uniqueKeysWithValues: keys.map { ($0.path, $0) })
    static let byEnvironmentName = Dictionary(uniqueKeysWithValues: keys.map { ($0.environmentName, $0) })

    /// `relay` for `relay.min_port`: what is a mapping in the file, and no value.
    static let sections = Set(keys.compactMap { key in key.path.firstIndex(of: ".").map { String(key.path[..<$0]) } })

    /// What is wrong with `path`, which names no key, and what may have been meant.
    static func problem(unknown path: String) -> String {
        if sections.contains(path) {
            let members = keys.filter { $0.path.hasPrefix(path + ".") }.map(\.path).joined(separator: ", ")
            return "\(path): is a section and has no value of its own; name one of its keys: \(members)"
        }
        let name = path.utf8.count <= 80 && shown(path) == "\"\(path)\"" ? path : shown(path)
        guard let meant = Spelling.nearest(to: path, among: keys.map(\.path) + sections.sorted()) else {
            return "\(name): unknown key; remove it"
        }
        return "\(name): unknown key; did you mean \(meant)?"
    }
}

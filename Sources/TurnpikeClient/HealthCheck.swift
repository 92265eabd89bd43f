import Traversal

/// Puts together how the services stand.
struct HealthCheck {
    private let configuration: Configuration
    private let client: PeerClient?
    private let startFailure: String?

    init(_ configuration: Configuration, client: PeerClient?, startFailure: String?) {
        (self.configuration, self.client, self.startFailure) = (configuration, client, startFailure)
    }

    var health: Health {
        let services = Health.Services(holePunching: holePunching, signaling: signaling, relay: relay)
        let hasWay = services.holePunching.status == .healthy || services.relay.status == .healthy
        return Health(healthy: services.signaling.status == .healthy && hasWay, services: services, issues: issues)
    }

    private var holePunching: Health.HolePunching {
        guard let client else { return Health.HolePunching(status: .disabled, natType: .unknown) }
        let type = client.servers.natType
        let status: Health.Status =
            switch type {
            case .blocked: .unhealthy
            // A server has answered, though it could not tell the kind.
            case .unknown where client.servers.nat.publicIP != nil: .healthy
            case .unknown: client.servers.isReady ? .unhealthy : .starting
            case .open, .fullCone, .restricted, .portRestricted, .symmetric: .healthy
            }
        return Health.HolePunching(status: status, natType: type)
    }

    private var signaling: Health.Signaling {
        let port = client?.serverURL.map { Int($0.port) }
        guard let client, let link = client.signaling else {
            let status: Health.Status = configuration.signalingServer == nil ? .disabled : .unhealthy
            return Health.Signaling(status: status, port: port, peers: 0)
        }
        let status: Health.Status = link.isUp ? .healthy : link.problem == nil ? .starting : .unhealthy
        return Health.Signaling(status: status, port: port, peers: client.registered.count)
    }

    private var relay: Health.Relay {
        guard let client, client.servers.hasRelayServers else { return Health.Relay(status: .disabled, allocated: 0) }
        let count = client.servers.relayCount
        let status: Health.Status = count > 0 ? .healthy : client.servers.isReady ? .unhealthy : .starting
        return Health.Relay(status: status, allocated: count)
    }

    private var issues: [String] {
        var issues = configuration.allIssues.map(\.description)
        if let startFailure { issues.append(startFailure) }
        guard let client else { return issues }
        issues += client.problems
        let nat = client.servers.nat
        if nat.type == .symmetric, !client.servers.hasRelayServers {
            issues.append(
                "Symmetric NAT detected but no TURN servers configured: peers behind such NATs cannot be reached; "
                    + "set TURN_SERVER, TURN_USERNAME and TURN_PASSWORD"
            )
        }
        if nat.type == .blocked {
            issues.append("no UDP gets out and back: allow it in the firewall, or rely on a TURN server by TCP or TLS")
        }
        return issues
    }
}

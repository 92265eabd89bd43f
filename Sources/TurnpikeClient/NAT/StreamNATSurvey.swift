import Signaling
import Traversal

/// `StreamNATCheck` for a program that has nothing but a configuration: it looks the servers up, and goes to the
/// signaling server for as long as it takes.
package final class StreamNATSurvey {
    private let network: any ClientNetwork
    private var finish: ((StreamNATReport) -> Void)?
    private var signaling: SignalingLink?
    private var check: StreamNATCheck?
    private var order: [Endpoint] = []
    private var isResolving = 0
    private var awaitsSignaling = false

    /// - Parameter finish: called once, unless it is closed before.
    package init(network: any ClientNetwork, _ finish: @escaping (StreamNATReport) -> Void) {
        (self.network, self.finish) = (network, finish)
    }

    /// - Parameter servers: the first of the list are preferred.
    package func begin(_ servers: [NATServer], _ configuration: Configuration) {
        let url = configuration.signalingServer.flatMap { try? ServerURL($0, usual: .wss) }
        if let url, let credentials = configuration.signalingCredentials {
            awaitsSignaling = true
            let link = SignalingLink(
                network,
                server: url,
                credentials: credentials,
                trust: ServerTrust(configuration.trust),
                keepAliveSeconds: 20
            ) { [weak self] event in
                switch event {
                case .up, .down, .closed:
                    self?.awaitsSignaling = false
                    self?.beginCheck()
                default: break
                }
            }
            signaling = link
            link.start()
        }
        let servers = Array(servers.prefix(ClientLimits.natServers))
        isResolving = servers.count
        for server in servers {
            network.resolve(server.host) { [weak self] answer in
                guard let self else { return }
                isResolving -= 1
                let addresses = (try? answer.get()) ?? []
                // NATs are IPv4's.
                if let address = addresses.first(where: \.isIPv4) {
                    order.append(Endpoint(address: address, port: server.port))
                }
                beginCheck()
            }
        }
        beginCheck()
    }

    package func close() {
        finish = nil
        check?.close()
        signaling?.close()
        (check, signaling) = (nil, nil)
    }

    private func beginCheck() {
        guard isResolving == 0, !awaitsSignaling, check == nil, finish != nil else { return }
        let prober: StreamNATCheck.Prober? = signaling.flatMap { link in
            link.isUp ? { [weak link] port, done in link?.probe(port: port, done) } : nil
        }
        let check = StreamNATCheck(order, prober: prober, network: network) { [weak self] report in
            guard let self, let finish = self.finish else { return }
            self.finish = nil
            finish(report)
        }
        self.check = check
        check.begin()
    }
}

import Signaling
import Traversal

/// `StreamNATCheck` for a program that has nothing but a configuration: it looks the servers up, and goes to the
/// signaling server for as long as it takes.
package final class StreamNATSurvey {
    /// What became of the way to the signaling server.
    package enum SignalingOutcome: Equatable, Sendable {
        case underWay
        case welcome
        case failed(SignalingFailure)
    }

    package private(set) var signalingOutcome = SignalingOutcome.underWay
    private let network: any ClientNetwork
    private var finish: ((StreamNATReport) -> Void)?
    private var signaling: SignalingLink?
    private var check: StreamNATCheck?
    private var order: [Endpoint] = []
    private var isResolving = 0
    /// What waits for the signaling server to say yes or no.
    private var heldProbe: (() -> Void)?
    private var lastWay: WebSocketWay?

    /// - Parameter finish: called once, unless it is closed before.
    package init(network: any ClientNetwork, _ finish: @escaping (StreamNATReport) -> Void) {
        (self.network, self.finish) = (network, finish)
    }

    /// How the signaling server was reached; nil where it was not.
    package var signalingWay: WebSocketWay? { lastWay ?? signaling?.way }

    /// - Parameter servers: the first of the list are preferred.
    package func begin(_ servers: [NATServer], _ configuration: Configuration) {
        beginSignaling(configuration)
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

    /// What has not answered over TCP by now does not.
    package func giveUpOnTheSilent() { check?.giveUpOnTheSilent() }

    /// Tells what is known by now.
    package func conclude() {
        let late = "it was not found out in time"
        if let check { return check.conclude(because: late) }
        var report = StreamNATReport()
        (report.mapping, report.unsolicited) = (.undetermined(late), .undetermined(late))
        end(report)
    }

    package func close() {
        finish = nil
        check?.close()
        signaling?.close()
        (check, signaling, heldProbe) = (nil, nil, nil)
    }

    private func end(_ report: StreamNATReport) {
        let finish = finish
        self.finish = nil
        finish?(report)
    }

    // MARK: Signaling

    private func beginSignaling(_ configuration: Configuration) {
        guard let url = configuration.signalingServer.flatMap({ try? ServerURL($0, usual: .wss) }) else { return }
        guard let credentials = configuration.signalingCredentials else {
            let mend = "set TURN_USERNAME and TURN_PASSWORD"
            return settle(.failed(SignalingFailure(.noCredentials, "there are no credentials for it", mend: mend)))
        }
        let link = SignalingLink(
            network,
            server: url,
            credentials: credentials,
            trust: ServerTrust(configuration.trust),
            keepAliveSeconds: 20
        ) { [weak self] event in
            guard let self else { return }
            switch event {
            case .up: settle(.welcome)
            case .down(let error): settle(.failed(SignalingFailure(error, cause: signaling?.failure)))
            default: break
            }
        }
        signaling = link
        link.start()
    }

    /// The first outcome counts: the link tries again by itself, for as long as it is there.
    private func settle(_ outcome: SignalingOutcome) {
        guard signalingOutcome == .underWay else { return }
        (signalingOutcome, lastWay) = (outcome, signaling?.way)
        let probe = heldProbe
        heldProbe = nil
        probe?()
    }

    // MARK: TCP

    private func beginCheck() {
        guard isResolving == 0, check == nil, finish != nil else { return }
        let prober: StreamNATCheck.Prober? =
            signaling == nil ? nil : { [weak self] port, done in self?.probe(port, done) }
        let check = StreamNATCheck(order, prober: prober, network: network) { [weak self] in self?.end($0) }
        self.check = check
        check.begin()
    }

    /// Nobody waits for the signaling server but who needs it.
    private func probe(_ port: UInt16, _ done: @escaping (Result<SignalingProbe, SignalingError>) -> Void) {
        switch signalingOutcome {
        case .underWay: heldProbe = { [weak self] in self?.probe(port, done) }
        case .welcome: signaling?.probe(port: port, done)
        case .failed: done(.failure(SignalingError(.unreachable, "it could not be asked")))
        }
    }
}

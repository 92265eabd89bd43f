import Foundation
import Gateway
import OpenSSLCrypto
import Relay
import Settings
import Signaling
import TURN

/// All that a page of metrics tells. Labels have values of fixed sets only, so that no client can make series.
struct MetricsReport {
    let workers: [RelaySnapshot]
    let gateway: GatewayStatistics
    let limits: [LimitUse]
    let relayPorts: [(address: RelayAddress, taken: Int, total: Int)]
    let usersNearLimit: Int
    let memory: MemoryPlan
    let certificateNotAfterSeconds: Int64?
    let isDraining: Bool
    let process: ProcessFacts

    /// The page, in Prometheus' text format.
    var text: String {
        let relay = workers.reduce(into: RelaySnapshot()) { $0.add($1) }
        var page = MetricsText()
        writeAllocations(relay, &page)
        writePackets(relay, &page)
        writeStreams(relay.counters, &page)
        writeRequests(relay.counters.control, &page)
        writeSignaling(&page)
        writeWorkers(&page)
        writeLimits(&page)
        writeServer(&page)
        return page.text
    }

    private func writeAllocations(_ relay: RelaySnapshot, _ page: inout MetricsText) {
        let control = relay.counters.control
        page.gauge("turnpike_allocations", "Allocations that are there.", relay.allocations)
        page.counter("turnpike_allocations_total", "Allocations made.", relay.counters.allocationsMade)
        page.histogram(
            "turnpike_allocation_duration_seconds",
            "How long allocations that have ended were there.",
            bounds: ControlCounters.durationBounds,
            counts: control.allocationDurations,
            sum: control.allocationSeconds
        )
    }

    /// Packets in are relayed, handled, dropped or held, and nothing else: the numbers add up exactly.
    private func writePackets(_ relay: RelaySnapshot, _ page: inout MetricsText) {
        let counters = relay.counters
        page.counter("turnpike_packets_in_total", "Packets and messages that came in.", counters.packetsIn)
        page.counter("turnpike_bytes_in_total", "Bytes of those.", counters.bytesIn)
        page.begin("turnpike_relayed_packets_total", .counter, "Packets relayed.")
        page.sample(counters.packetsToPeers, ["direction": "to_peers"])
        page.sample(counters.packetsToClients, ["direction": "to_clients"])
        page.begin("turnpike_relayed_bytes_total", .counter, "Bytes of payload relayed in packets.")
        page.sample(counters.bytesToPeers, ["direction": "to_peers"])
        page.sample(counters.bytesToClients, ["direction": "to_clients"])
        page.counter(
            "turnpike_stun_handled_total",
            "Packets in that were STUN messages or DTLS handshakes, and are done.",
            counters.stunHandled
        )
        page.begin("turnpike_dropped_packets_total", .counter, "Packets in that were dropped, by reason.")
        for reason in DropReason.allCases { page.sample(counters[reason], ["reason": reason.label]) }
        page.gauge(
            "turnpike_packets_held",
            "Packets in that wait for the account store or another worker.",
            relay.packetsHeld
        )
        page.counter("turnpike_replies_sent_total", "Answers sent to clients.", counters.repliesSent)
        page.counter("turnpike_peer_errors_total", "ICMP errors for packets to peers.", counters.peerErrors)
        page.counter(
            "turnpike_peer_errors_told_total",
            "ICMP errors that clients were told of.",
            counters.peerErrorsTold
        )
    }

    private func writeStreams(_ counters: Counters, _ page: inout MetricsText) {
        page.begin("turnpike_stream_relayed_bytes_total", .counter, "Bytes relayed by TCP (RFC 6062).")
        page.sample(counters.streamBytesToPeers, ["direction": "to_peers"])
        page.sample(counters.streamBytesToClients, ["direction": "to_clients"])
        page.begin("turnpike_peer_connections_total", .counter, "Connections between allocations and peers by TCP.")
        page.sample(counters.peerConnectionsMade, ["outcome": "made"])
        page.sample(counters.peerConnectionsRefused, ["outcome": "refused"])
        page.begin("turnpike_client_connections_total", .counter, "Clients' connections by TCP, TLS and DTLS.")
        page.sample(counters.connectionsAccepted, ["outcome": "accepted"])
        page.sample(counters.connectionsRefused, ["outcome": "refused"])
    }

    private func writeRequests(_ control: ControlCounters, _ page: inout MetricsText) {
        page.begin("turnpike_stun_requests_total", .counter, "STUN and TURN requests that had their turn.")
        for (method, label) in ControlCounters.methods {
            for transport in [ClientTransport.udp, .tcp, .tls, .dtls] {
                page.sample(control[method, transport], ["method": label, "transport": "\(transport)"])
            }
        }
        page.begin("turnpike_stun_errors_total", .counter, "Error answers to requests, by code.")
        for code in ControlCounters.errorCodes {
            page.sample(control[errorCode: code], ["code": code == 0 ? "other" : "\(code)"])
        }
        page.begin("turnpike_auth_failures_total", .counter, "Requests that did not prove their user, by reason.")
        for failure in AuthenticationFailure.allCases { page.sample(control[failure], ["reason": failure.label]) }
    }

    private func writeSignaling(_ page: inout MetricsText) {
        let counters = gateway.signaling
        page.gauge("turnpike_signaling_connections", "WebSockets that are open.", gateway.signalingConnections)
        page.gauge("turnpike_signaling_sessions", "Sessions, those that may be resumed too.", gateway.sessions)
        page.gauge("turnpike_signaling_peers", "Peers that are registered.", gateway.peers)
        page.gauge("turnpike_rooms", "Rooms with somebody in them.", gateway.rooms)
        page.begin("turnpike_signaling_messages_total", .counter, "Messages received, by type.")
        var known: UInt64 = 0
        for kind in MessageKind.allCases {
            known &+= counters[kind]
            page.sample(counters[kind], ["type": "\(kind.name)"])
        }
        // A message that waits for its predecessor's login is among these for as long.
        page.sample(counters.messagesReceived > known ? counters.messagesReceived - known : 0, ["type": "other"])
        page.counter("turnpike_signaling_sent_messages_total", "Messages sent.", counters.messagesSent)
        page.begin("turnpike_signaling_rejected_total", .counter, "What clients were refused or closed for.")
        for reason in RejectionReason.allCases { page.sample(counters[reason], ["reason": reason.label]) }
        page.gauge(
            "turnpike_path_memory_pairs",
            "Pairs of networks of which is known what worked between them.",
            gateway.networkPairs
        )
        page.begin("turnpike_path_memory_reports_total", .counter, "Reports of peers on paths, by what became of them.")
        page.sample(counters.pathReportsTaken, ["outcome": "taken"])
        page.sample(counters.pathReportsIgnored, ["outcome": "ignored"])
        page.counter(
            "turnpike_path_memory_signals_total",
            "How often a peer was told what worked before.",
            counters.pathMemoriesSent
        )
        page.gauge(
            "turnpike_https_connections",
            "Connections to listen.https, and for HTTP to listen.shared.",
            gateway.connections
        )
        page.counter(
            "turnpike_https_connections_refused_total",
            "Connections for HTTP in excess, closed at once.",
            gateway.connectionsRefused
        )
    }

    private func writeWorkers(_ page: inout MetricsText) {
        page.begin("turnpike_worker_busy_ratio", .gauge, "How much of the last second a worker was busy, 0 to 1.")
        for (number, worker) in workers.enumerated() { page.sample(worker.busyShare, ["worker": "\(number)"]) }
        page.begin("turnpike_worker_busy_seconds_total", .counter, "Time a worker was busy.")
        for (number, worker) in workers.enumerated() {
            page.sample(Double(worker.busyNanoseconds) / 1e9, ["worker": "\(number)"])
        }
        page.begin("turnpike_worker_allocations", .gauge, "Allocations of a worker.")
        for (number, worker) in workers.enumerated() { page.sample(worker.allocations, ["worker": "\(number)"]) }
    }

    private func writeLimits(_ page: inout MetricsText) {
        // Those without a limit have nothing to fill.
        let limits = limits.filter { $0.limit > 0 && $0.subject == nil }
        page.begin("turnpike_limit", .gauge, "Limits of the server, by the names of docs/operations.md.")
        for use in limits { page.sample(use.limit, ["limit": use.name]) }
        page.begin("turnpike_limit_used", .gauge, "How much of each limit is used; of bandwidth, in the last second.")
        for use in limits { page.sample(use.used, ["limit": use.name]) }
        page.begin("turnpike_relay_ports", .gauge, "Relay ports of an address.")
        for ports in relayPorts { page.sample(ports.total, ["address": "\(HostAddress(ports.address.local))"]) }
        page.begin("turnpike_relay_ports_used", .gauge, "Relay ports of an address that are taken.")
        for ports in relayPorts { page.sample(ports.taken, ["address": "\(HostAddress(ports.address.local))"]) }
        page.gauge(
            "turnpike_users_near_allocation_limit",
            "Users who came to four fifths of their allocations in the last second.",
            usersNearLimit
        )
        page.gauge("turnpike_memory_planned_bytes", "Memory that the server's limits are planned for.", memory.bytes)
        page.gauge(
            "turnpike_queue_limit_bytes",
            "What all connections of clients together may have waiting to be sent.",
            memory.queueBytes
        )
    }

    private func writeServer(_ page: inout MetricsText) {
        if let seconds = certificateNotAfterSeconds {
            page.gauge(
                "turnpike_certificate_expiry_timestamp_seconds",
                "The end of the certificate's life, in seconds since 1970.",
                Int(clamping: seconds)
            )
        }
        page.gauge("turnpike_draining", "1 while the server drains.", isDraining ? 1 : 0)
        page.begin("turnpike_build_info", .gauge, "1, with what the server is.")
        page.sample(1, ["version": Version.current, "openssl": OpenSSLVersion.text])
        process.write(&page)
    }
}

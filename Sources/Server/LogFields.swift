import Logging
import STUN
import Settings
import TURN

/// How addresses and events stand in the log.
struct LogFields: Sendable {
    let addresses: Settings.LogAddresses

    /// Whole, or the network alone: the last byte of IPv4 and all but the first 48 bits of IPv6 are left out.
    func address(_ endpoint: Endpoint) -> Logger.MetadataValue {
        let address = endpoint.address.withoutLink
        guard addresses == .masked else {
            let link = endpoint.address.linkNumber
            if link != 0 { return "[\(HostAddress(address))%\(link)]:\(endpoint.port)" }
            return "\(SocketAddress(endpoint))"
        }
        if address.isIPv4 { return "\(HostAddress(v4: address.v4 & 0xFFFF_FF00))/24" }
        return "\(HostAddress(high: address.high & 0xFFFF_FFFF_FFFF_0000, low: 0))/48"
    }

    func summary(_ summary: AllocationSummary) -> Logger.Metadata {
        [
            "user": .string(summary.user),
            "client": address(summary.client),
            "relayed": address(summary.relayed),
        ]
    }

    func traffic(_ summary: AllocationSummary) -> Logger.Metadata {
        [
            "seconds": .stringConvertible(summary.durationSeconds),
            "packets_to_peers": .stringConvertible(summary.traffic.packetsToPeers),
            "bytes_to_peers": .stringConvertible(summary.traffic.bytesToPeers),
            "packets_to_client": .stringConvertible(summary.traffic.packetsToClient),
            "bytes_to_client": .stringConvertible(summary.traffic.bytesToClient),
            "packets_over_bandwidth": .stringConvertible(summary.traffic.packetsOverBandwidth),
        ]
    }

    func totals(_ counters: Counters) -> Logger.Metadata {
        var fields: Logger.Metadata = [
            "packets_in": .stringConvertible(counters.packetsIn),
            "bytes_in": .stringConvertible(counters.bytesIn),
            "packets_relayed": .stringConvertible(counters.packetsRelayed),
            "packets_to_peers": .stringConvertible(counters.packetsToPeers),
            "packets_to_clients": .stringConvertible(counters.packetsToClients),
            "stream_bytes_to_peers": .stringConvertible(counters.streamBytesToPeers),
            "stream_bytes_to_clients": .stringConvertible(counters.streamBytesToClients),
            "peer_connections_made": .stringConvertible(counters.peerConnectionsMade),
            "peer_connections_refused": .stringConvertible(counters.peerConnectionsRefused),
            "stun_handled": .stringConvertible(counters.stunHandled),
            "replies_sent": .stringConvertible(counters.repliesSent),
            "peer_errors": .stringConvertible(counters.peerErrors),
            "peer_errors_told": .stringConvertible(counters.peerErrorsTold),
            "allocations_made": .stringConvertible(counters.allocationsMade),
            "authentication_failures": .stringConvertible(counters.authenticationFailures),
            "packets_dropped": .stringConvertible(counters.packetsDropped),
        ]
        for reason in DropReason.allCases {
            fields["dropped_\(reason.label)"] = .stringConvertible(counters[reason])
        }
        return fields
    }
}

/// Why a packet went nowhere. Every one that came in is relayed, handled as STUN, or counted under exactly one of
/// these.
package enum DropReason: Int, CaseIterable, Sendable {
    case tooShort, unknownFirstByte, truncated
    case malformed, wrongCookie, wrongFingerprint
    case unexpectedClass, unknownMethod, unwantedSource
    case noAllocation, badChannelData, unboundChannel, noPermission, deniedPeer, badIndication, tooLarge
    case peerNotPermitted, overBandwidth
    case replyBudget, failureBudget, parkingFull, sendQueueFull, sendFailed, clientGone, desynchronised
    /// Of DTLS: what no session could open or could begin with; in the clear from where DTLS is spoken; and clients in
    /// excess.
    case badRecord, unprotected, tooManySessions

    /// As it stands in logs and metrics.
    package var label: String {
        switch self {
        case .tooShort: "too_short"
        case .unknownFirstByte: "unknown_first_byte"
        case .truncated: "truncated"
        case .malformed: "malformed"
        case .wrongCookie: "wrong_cookie"
        case .wrongFingerprint: "wrong_fingerprint"
        case .unexpectedClass: "unexpected_class"
        case .unknownMethod: "unknown_method"
        case .unwantedSource: "unwanted_source"
        case .noAllocation: "no_allocation"
        case .badChannelData: "bad_channel_data"
        case .unboundChannel: "unbound_channel"
        case .noPermission: "no_permission"
        case .deniedPeer: "denied_peer"
        case .badIndication: "bad_indication"
        case .tooLarge: "too_large"
        case .peerNotPermitted: "peer_not_permitted"
        case .overBandwidth: "over_bandwidth"
        case .replyBudget: "reply_budget"
        case .failureBudget: "failure_budget"
        case .parkingFull: "parking_full"
        case .sendQueueFull: "send_queue_full"
        case .sendFailed: "send_failed"
        case .clientGone: "client_gone"
        case .desynchronised: "desynchronised"
        case .badRecord: "bad_record"
        case .unprotected: "unprotected"
        case .tooManySessions: "too_many_sessions"
        }
    }
}

/// One worker's counters: plain numbers that only the worker writes.
package struct Counters: Sendable {
    package var packetsIn: UInt64 = 0
    package var bytesIn: UInt64 = 0
    /// Messages that were answered or needed no answer, and datagrams of DTLS handshakes.
    package var stunHandled: UInt64 = 0
    package var packetsToPeers: UInt64 = 0
    package var bytesToPeers: UInt64 = 0
    package var packetsToClients: UInt64 = 0
    package var bytesToClients: UInt64 = 0
    package var allocationsMade: UInt64 = 0
    package var authenticationFailures: UInt64 = 0
    package var control = ControlCounters()
    package var repliesSent: UInt64 = 0
    /// ICMP errors for datagrams to peers. They are no packets, and stand apart from those.
    package var peerErrors: UInt64 = 0
    package var peerErrorsTold: UInt64 = 0
    package var connectionsAccepted: UInt64 = 0
    package var connectionsRefused: UInt64 = 0
    /// Relayed by TCP, apart from packets.
    package var streamBytesToPeers: UInt64 = 0
    package var streamBytesToClients: UInt64 = 0
    package var peerConnectionsMade: UInt64 = 0
    package var peerConnectionsRefused: UInt64 = 0
    private var drops = InlineArray<28, UInt64>(repeating: 0)

    package init() {}

    package subscript(reason: DropReason) -> UInt64 { drops[reason.rawValue] }

    @inline(__always)
    package mutating func drop(_ reason: DropReason, _ packets: UInt64 = 1) {
        drops[reason.rawValue] &+= packets
    }

    package var packetsRelayed: UInt64 { packetsToPeers &+ packetsToClients }

    package var packetsDropped: UInt64 { DropReason.allCases.reduce(0) { $0 &+ self[$1] } }

    /// Adds another worker's.
    package mutating func add(_ other: Counters) {
        packetsIn &+= other.packetsIn
        bytesIn &+= other.bytesIn
        stunHandled &+= other.stunHandled
        packetsToPeers &+= other.packetsToPeers
        bytesToPeers &+= other.bytesToPeers
        packetsToClients &+= other.packetsToClients
        bytesToClients &+= other.bytesToClients
        allocationsMade &+= other.allocationsMade
        authenticationFailures &+= other.authenticationFailures
        control.add(other.control)
        repliesSent &+= other.repliesSent
        peerErrors &+= other.peerErrors
        peerErrorsTold &+= other.peerErrorsTold
        connectionsAccepted &+= other.connectionsAccepted
        connectionsRefused &+= other.connectionsRefused
        streamBytesToPeers &+= other.streamBytesToPeers
        streamBytesToClients &+= other.streamBytesToClients
        peerConnectionsMade &+= other.peerConnectionsMade
        peerConnectionsRefused &+= other.peerConnectionsRefused
        for reason in DropReason.allCases { drop(reason, other[reason]) }
    }
}

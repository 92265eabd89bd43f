import TurnpikeClient

// The names by which users and programs know these things.

extension TURNConfiguration.Transport {
    var word: String {
        switch self {
        case .udp: "udp"
        case .tcp: "tcp"
        case .tls: "tls"
        case .dtls: "dtls"
        }
    }
}

extension NATName {
    var word: String {
        switch self {
        case .open: "Open"
        case .fullCone: "Full Cone"
        case .restricted: "Restricted"
        case .portRestricted: "Port-Restricted"
        case .symmetric: "Symmetric"
        case .blocked: "Blocked"
        }
    }
}

import OpenSSLCrypto
import Traversal
import TurnpikeClient

struct ICEPlan: Sendable {
    var role = ICERole.controlled
    /// Those of the machine where there is none.
    var addresses: [IPAddress] = []
    var stunServer: Endpoint?
    var relay: RelayServer?
    var isRelayOnly = false

    init?(_ arguments: [String]) {
        switch arguments.first {
        case "controlling": role = .controlling
        case "controlled": role = .controlled
        default: return nil
        }
        for argument in arguments.dropFirst() {
            let (name, value) = Self.halves(argument, "=")
            switch name {
            case "address":
                guard let address = AddressText.address(value) else { return nil }
                addresses.append(address)
            case "stun":
                let (host, port) = Self.halves(value, ":")
                guard let address = AddressText.address(host), let port = UInt16(port) else { return nil }
                stunServer = Endpoint(address: address, port: port)
            case "turn":
                let parts = value.split(separator: ":").map(String.init)
                guard parts.count == 4, let port = UInt16(parts[1]) else { return nil }
                let credential = TURNCredential(username: parts[2], password: parts[3])
                relay = RelayServer(host: parts[0], port: port, transport: .udp, credential: credential)
            case "relay-only": isRelayOnly = true
            default: return nil
            }
        }
    }

    private static func halves(_ text: String, _ separator: Character) -> (String, String) {
        let parts = text.split(separator: separator, maxSplits: 1).map(String.init)
        return (parts.first ?? "", parts.count > 1 ? parts[1] : "")
    }
}

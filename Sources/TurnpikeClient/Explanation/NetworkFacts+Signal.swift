import Signaling
import Traversal

/// What two programs of this library tell each other of their networks: in the member `network` of an offer, an answer
/// or a `signal`, beside the member `nat`. Addresses are in candidates alone.
extension NetworkFacts {
    static let member = "network"
    /// Of a `signal` that says no more than these two members: what was not known at the time of the description.
    static let kind = "nat-report"

    /// All that a peer is told, to tell what is new.
    var told: JSONValue { .array([.string(type.rawValue), signaled]) }

    var signaled: JSONValue {
        var members: [String: JSONValue] = [:]
        if let ports { members["ports"] = .string(ports.rawValue) }
        if let layers { members["layers"] = .string(layers.rawValue) }
        if isFirewalled { members["firewall"] = .bool(true) }
        if isMapped { members["mapped"] = .bool(true) }
        if hasOnlyPort443 { members["onlyPort443"] = .bool(true) }
        members["families"] = .array(families.map { .string($0.word) }.sorted { $0.string ?? "" < $1.string ?? "" })
        return .object(members)
    }

    /// - Parameter payload: of the peer's message; what makes no sense in it is taken for unknown.
    init?(signaled payload: JSONValue) {
        let type = payload["nat"]?.string.flatMap(NATType.init)
        let network = payload[Self.member]
        guard type != nil || network?.object != nil else { return nil }
        self.init(type: type ?? .unknown, ports: network?["ports"]?.string.flatMap(Ports.init))
        layers = network?["layers"]?.string.flatMap(Layers.init)
        isFirewalled = network?["firewall"]?.bool ?? false
        isMapped = network?["mapped"]?.bool ?? false
        hasOnlyPort443 = network?["onlyPort443"]?.bool ?? false
        let words = (network?["families"]?.array ?? []).prefix(2).compactMap(\.string)
        families = Set([AddressFamily.ipv4, .ipv6].filter { words.contains($0.word) })
    }
}

extension AddressFamily {
    fileprivate var word: String { self == .ipv4 ? "ipv4" : "ipv6" }
}

import STUN

/// What the packets' way needs to know of this host, laid out flat: a set or a dictionary would hash for every packet
/// and count references.
struct OwnHost: ~Copyable {
    private struct Mapping: BitwiseCopyable {
        var outside: IPAddress
        var inside: IPAddress
    }

    private let listeners: UnsafeMutablePointer<Endpoint>
    private let listenerCount: Int
    private let mappings: UnsafeMutablePointer<Mapping>
    private let mappingCount: Int

    init(_ configuration: Configuration) {
        listenerCount = configuration.policy.listeners.count
        listeners = .allocate(capacity: max(listenerCount, 1))
        for (index, listener) in configuration.policy.listeners.enumerated() {
            (listeners + index).initialize(to: listener)
        }
        mappingCount = configuration.insideAddresses.count
        mappings = .allocate(capacity: max(mappingCount, 1))
        for (index, pair) in configuration.insideAddresses.enumerated() {
            (mappings + index).initialize(to: Mapping(outside: pair.key, inside: pair.value))
        }
    }

    deinit {
        listeners.deallocate()
        mappings.deallocate()
    }

    /// Whether clients speak to this server there.
    @inline(__always)
    func isListener(_ endpoint: Endpoint) -> Bool {
        var index = 0
        while index < listenerCount {
            if listeners[index] == endpoint { return true }
            index &+= 1
        }
        return false
    }

    /// Where a datagram for `peer` really goes: a relay of ours behind 1:1 NAT is reached inside, since few NATs
    /// hairpin.
    @inline(__always)
    func destination(for peer: Endpoint) -> Endpoint {
        var index = 0
        while index < mappingCount {
            if mappings[index].outside == peer.address {
                return Endpoint(address: mappings[index].inside, port: peer.port)
            }
            index &+= 1
        }
        return peer
    }

    /// The address a client knows the sender of a datagram by: the outside one for a relay of ours.
    @inline(__always)
    func canonicalSource(_ source: Endpoint) -> Endpoint {
        var index = 0
        while index < mappingCount {
            if mappings[index].inside == source.address {
                return Endpoint(address: mappings[index].outside, port: source.port)
            }
            index &+= 1
        }
        return source
    }
}

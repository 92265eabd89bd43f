import STUN

/// All that an operator decides about the relay, as the engine reads it. A reload replaces it whole.
package struct Configuration: Sendable {
    package var realm: String
    package var nonceKeys: NonceKeys
    package var nonceLifetimeSeconds: UInt64 = 600
    /// Refuses MD5 and SHA-1, which every browser still needs.
    package var requiresSHA256 = false
    /// Shared secrets of time-limited credentials; any of them is good.
    package var sharedSecrets: [[UInt8]] = []
    package var maximumCredentialSeconds: UInt64 = 86_400
    package var policy = PeerPolicy()
    /// Outside address of each relay address behind 1:1 NAT.
    package var insideAddresses: [IPAddress: IPAddress] = [:]
    /// What clients are told instead of an address of this host, behind 1:1 NAT.
    package var outsideAddresses: [IPAddress: IPAddress] = [:]
    package var discovery = NATDiscovery()
    /// Also accept channels 0x5000 to 0x7FFF.
    package var acceptsWideChannels = false
    /// Allocations may relay TCP (RFC 6062).
    package var relaysTCP = false
    /// RFC 8016.
    package var allowsMobility = false
    /// 0 means no limit, here and below.
    package var allocationsPerUser = 10
    package var allocationsTotal = 0
    package var permissionsPerAllocation = 128
    /// Of relayed payload, both directions together; where a user has a limit of his own, that counts.
    package var bitsPerSecondPerAllocation: UInt64 = 0
    /// Of all allocations of all workers.
    package var bitsPerSecondTotal: UInt64 = 0
    package var unauthenticatedRepliesPerSecond: UInt32 = 10
    package var bindingRepliesPerSecond: UInt32 = 500
    /// While draining no allocation is made; those there are live on.
    package var isDraining = false
    /// Where a client may allocate instead, while this server drains. Port 0 stands for the port it came to.
    package var alternateServers: [Endpoint] = []

    package init(realm: String, nonceKeys: NonceKeys) {
        self.realm = realm
        self.nonceKeys = nonceKeys
    }

    /// PASSWORD-ALGORITHMS as it goes into a challenge and must come back unchanged (RFC 8489 section 9.2.4): the
    /// algorithm and the length of its parameters, two bytes each, the best one first.
    var passwordAlgorithms: InlineArray<8, UInt8> { [0, 2, 0, 0, 0, 1, 0, 0] }
    var passwordAlgorithmsLength: Int { requiresSHA256 ? 4 : 8 }
}

/// What an operator sets: the keys below `signaling`, and those of other sections that the hub needs.
package struct HubConfiguration: Sendable {
    package var maxMessageBytes = 65_536
    package var messagesPerSecond: UInt64 = 50
    package var burst: UInt64 = 100
    package var connectionsPerUser = 20
    package var connectionsPerAddress = 100
    package var peerTimeoutSeconds: UInt64 = 300
    package var resumeWindowSeconds: UInt64 = 30
    /// What a client gets that asks for credentials without a `ttl`.
    package var credentialTTLSeconds: UInt64 = 3_600
    /// `auth.max_credential_ttl`; more is cut down to it.
    package var maxCredentialTTLSeconds: UInt64 = 86_400
    /// All connections of the process, as far as its descriptors go.
    package var connectionsMax = 65_536

    package init() {}
}

/// The budgets that follow from a configuration.
struct Rates {
    let message: Rate
    let user: Rate
    let address: Rate
    let refusal: Rate
    let fanOut: Rate
    let roomFanOut: Rate

    init(_ configuration: HubConfiguration) {
        // Above this no machine serves, and below it no product of the table overflows.
        let perSecond = min(max(1, configuration.messagesPerSecond), 1_000_000)
        let burst = min(max(1, configuration.burst), 1_000_000)
        func shared(_ connections: Int) -> Rate {
            let connections = UInt64(min(max(1, connections), 1_000_000))
            let factor = max(1, connections / SignalingLimits.sharedBudgetDivisor)
            return Rate(perSecond: perSecond * factor, burst: burst * factor)
        }
        message = Rate(perSecond: perSecond, burst: burst)
        user = shared(configuration.connectionsPerUser)
        address = shared(configuration.connectionsPerAddress)
        refusal = Rate(perSecond: max(1, perSecond / SignalingLimits.refusalRateDivisor), burst: burst)
        func fanOut(_ copies: UInt64) -> Rate { Rate(perSecond: perSecond * copies, burst: burst * copies) }
        self.fanOut = fanOut(SignalingLimits.fanOutPerMessage)
        roomFanOut = fanOut(SignalingLimits.roomFanOutPerMessage)
    }
}

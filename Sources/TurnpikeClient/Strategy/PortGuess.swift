/// How two programs of this library find a port that neither can know beforehand, in the terms of what both tell of
/// their networks: what `PunchPlan` makes of the same NATs.
package enum PortGuess: Hashable, Sendable {
    /// The next one of a NAT that counts, or the socket's own.
    case next
    /// Out of a block.
    case inBlock
    case anywhere
    /// Both sides count.
    case bothNext

    /// - Returns: nil where ordinary checks suffice, or nothing is to be hoped for.
    package init?(_ one: NetworkFacts, _ other: NetworkFacts) {
        switch (one.filteringType, other.filteringType) {
        case (.symmetric, .portRestricted): self.init(one.ports)
        case (.portRestricted, .symmetric): self.init(other.ports)
        case (.symmetric, .symmetric) where one.ports == .sequential && other.ports == .sequential: self = .bothNext
        default: return nil
        }
    }

    private init?(_ ports: NetworkFacts.Ports?) {
        switch ports {
        case .sequential, .preserving: self = .next
        case .chunked: self = .inBlock
        case .random: self = .anywhere
        case nil: return nil
        }
    }

    /// What is done and what comes of it, as the end of a sentence.
    var expectation: String {
        switch self {
        case .next: "guessing the next port, which mostly succeeds within two seconds"
        case .inBlock: "guessing the port out of that block, which mostly succeeds within three seconds"
        case .anywhere: "guessing one port of all, which mostly succeeds within twelve seconds"
        case .bothNext: "guessing the next port on both sides, which mostly succeeds within some seconds"
        }
    }
}

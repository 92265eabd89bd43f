import Traversal

/// The five types of NAT, in both directions of a pair.
package enum NATSide: String, CaseIterable, Sendable {
    case open, fullCone, restricted, portRestricted, symmetric

    /// nil: no NAT.
    package var behavior: NATBehavior? {
        switch self {
        case .open: nil
        case .fullCone: .fullCone
        case .restricted: .restricted
        case .portRestricted: .portRestricted
        case .symmetric: .symmetric
        }
    }

    /// The same with everything else about it drawn: how it gives out ports, and whether it turns packets round.
    package func behavior(_ dice: inout Dice) -> NATBehavior? {
        let ways: [NATBehavior.Allocation] =
            self == .symmetric
            ? [.random, .chunked(ports: 512)]
            : [.preserving, .random, .sequential(step: [1, 2, -1][Int(dice.below(3))]), .chunked(ports: 1_024)]
        let allocation = ways[Int(dice.below(UInt64(ways.count)))]
        let turnsRound = dice.chance(0.3)
        return behavior?.with {
            $0.allocation = allocation
            $0.hairpinning = turnsRound ? .externalSource : .none
        }
    }

    package var name: NATName {
        switch self {
        case .open: .open
        case .fullCone: .fullCone
        case .restricted: .restricted
        case .portRestricted: .portRestricted
        case .symmetric: .symmetric
        }
    }
}

/// A direction of the table of NAT pairs.
package struct NATPair: Sendable, CustomStringConvertible {
    package let offerer: NATSide
    package let answerer: NATSide

    package init(offerer: NATSide, answerer: NATSide) { (self.offerer, self.answerer) = (offerer, answerer) }

    package var description: String { "\(offerer) to \(answerer)" }

    /// Direct without guessing ports: all but a symmetric NAT with another one, or with a port-restricted one.
    package var isDirect: Bool {
        let strict: Set = [NATSide.portRestricted, .symmetric]
        return
            !(offerer == .symmetric && strict.contains(answerer) || answerer == .symmetric && strict.contains(offerer))
    }

    /// Direct by guessing the symmetric side's ports.
    package var isGuessable: Bool {
        offerer == .symmetric && answerer == .portRestricted || answerer == .symmetric && offerer == .portRestricted
    }

    package static let all = NATSide.allCases.flatMap { first in
        NATSide.allCases.map { NATPair(offerer: first, answerer: $0) }
    }
}

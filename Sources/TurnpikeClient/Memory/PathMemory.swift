import Signaling

/// What the signaling server remembers of paths between this network and a peer's, from connections of all who share
/// the two. It is advice: any of those may have lied, so it decides what is tried first, and nothing for good.
package struct PathMemory: Hashable, Sendable {
    /// Of a `signal` of the server's.
    static let kind = "memory"

    /// Best first.
    package private(set) var advice: [PathAdvice] = []

    package init(_ advice: [PathAdvice] = []) { self.advice = advice.sorted { $0.score > $1.score } }

    /// - Parameter payload: of the server's signal; methods that are not known here are passed over.
    init?(_ payload: JSONValue) {
        guard payload["kind"]?.string == Self.kind, let methods = payload["methods"]?.array else { return nil }
        let range = SignalingLimits.pathScoreRange
        self.init(
            methods.prefix(PathMethod.allCases.count).compactMap { entry in
                guard let method = entry["method"]?.string.flatMap(PathMethod.init), let score = entry["score"]?.number,
                    let score = Int(exactly: score), range.contains(score)
                else { return nil }
                let milliseconds = entry["milliseconds"]?.wholeNumber ?? 0
                return PathAdvice(
                    method: method,
                    score: score,
                    milliseconds: Int(min(milliseconds, SignalingLimits.pathMillisecondsMax))
                )
            }
        )
    }

    /// What has worked more often than not, without a relay; nil where nothing is known to.
    package var bestDirect: PathAdvice? { advice.first { $0.method != .relay && $0.score > 0 } }

    /// -10 for what never worked to 10; 0 for what nobody has tried.
    package func score(of method: PathMethod) -> Int { advice.first { $0.method == method }?.score ?? 0 }

    /// How long it took to get a path by that method; nil where it is not known to work.
    package func milliseconds(of method: PathMethod) -> Int? {
        advice.first { $0.method == method && $0.score > 0 && $0.milliseconds > 0 }?.milliseconds
    }

    /// A sentence for a person; empty where there is nothing to say.
    package var words: String {
        if let best = bestDirect {
            let time = best.milliseconds > 0 ? ", in about \(best.milliseconds) ms" : ""
            return "Between these two networks, \(best.method.rawValue) has led to a path before\(time)."
        }
        let failed = advice.filter { $0.method != .relay && $0.score < 0 }.map(\.method.rawValue)
        return failed.isEmpty
            ? "" : "Between these two networks, \(failed.joined(separator: " and ")) has led nowhere before."
    }
}

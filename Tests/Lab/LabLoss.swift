import Foundation

/// What the environment asks of a test that leaves it open how bad its links are.
///
///     LAB_LOSS=5 LAB_RUNS=200 swift test --filter PunchCellTests
package enum LabLoss {
    /// What each link loses, in each direction: `LAB_LOSS` is in hundredths, and stands in place of what is usual.
    package static func ratio(usual: Double = 0) -> Double {
        wanted ?? usual
    }

    /// Nil where the environment asks for none.
    package static let wanted: Double? = ProcessInfo.processInfo.environment["LAB_LOSS"]
        .flatMap { Double($0) }
        .flatMap { (0...100).contains($0) ? $0 / 100 : nil }
}

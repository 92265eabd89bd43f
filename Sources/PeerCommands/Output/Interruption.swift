import Foundation
import Synchronization

/// Ctrl-C and SIGTERM as a question that a loop asks, so that what was taken from a server is given back first. The
/// second one ends the process as usual.
enum Interruption {
    private static let hasCome = Atomic(false)

    static func watch() {
        hasCome.store(false, ordering: .relaxed)
        for number in [SIGINT, SIGTERM] {
            signal(number) { number in
                signal(number, SIG_DFL)
                Interruption.hasCome.store(true, ordering: .relaxed)
            }
        }
    }

    static func unwatch() {
        for number in [SIGINT, SIGTERM] { signal(number, SIG_DFL) }
    }

    static var isRequested: Bool { hasCome.load(ordering: .relaxed) }
}

import Foundation

/// usrsctp has one set of timers for the whole process. A test that moves them by virtual time would make those of a
/// test that runs beside it expire, so it takes them for itself; tests that move them by real time share them.
package actor SCTPTime {
    package static let turns = SCTPTime()

    private enum Holders: Equatable {
        case none, virtual
        case real(Int)
    }

    private var holders = Holders.none
    private var waiting: [(isVirtual: Bool, turn: CheckedContinuation<Void, Never>)] = []

    /// Runs a test that moves the timers by virtual time, while no other test uses associations. `VirtualClock` is the
    /// test's as well.
    package static func virtual<Result>(_ body: () throws -> Result) async rethrows -> Result {
        await turns.enter(isVirtual: true)
        do {
            let result = try VirtualClock.run(body)
            await turns.leave()
            return result
        } catch {
            await turns.leave()
            throw error
        }
    }

    /// The same for a test of several runs, each of which has a `VirtualClock` of its own.
    package static func virtualRuns(_ body: () async -> Void) async {
        await turns.enter(isVirtual: true)
        await body()
        await turns.leave()
    }

    /// Runs a test whose associations live in real time.
    package static func real<Result>(_ body: () async throws -> Result) async rethrows -> Result {
        await turns.enter(isVirtual: false)
        do {
            let result = try await body()
            await turns.leave()
            return result
        } catch {
            await turns.leave()
            throw error
        }
    }

    private func enter(isVirtual: Bool) async {
        // In the order of arrival, so that many of one kind do not keep out the other.
        if waiting.isEmpty, admit(isVirtual) { return }
        await withCheckedContinuation { waiting.append((isVirtual, $0)) }
    }

    private func admit(_ isVirtual: Bool) -> Bool {
        switch (holders, isVirtual) {
        case (.none, true): holders = .virtual
        case (.none, false): holders = .real(1)
        case (.real(let count), false): holders = .real(count + 1)
        default: return false
        }
        return true
    }

    private func leave() {
        if case .real(let count) = holders, count > 1 { holders = .real(count - 1) } else { holders = .none }
        while let next = waiting.first, admit(next.isVirtual) {
            waiting.removeFirst()
            next.turn.resume()
        }
    }
}

import Accounts
import Foundation
import Gateway
import LinuxIO
import Relay
import STUN
import Settings
import Synchronization
import TURN

/// The command line's verbs, done by the server itself for the API.
final class AdminControl: GatewayControl {
    /// What only the server can say or do, which is made after this.
    private struct Server: Sendable {
        var listeners: @Sendable () -> [String] = { [] }
        var drain: @Sendable (Int) -> Void = { _ in }
        var isDraining: @Sendable () -> Bool = { false }
        var reload: @Sendable () -> ReloadView = { ReloadView(isReloaded: false, messages: []) }
    }

    let store: AccountStore
    private let queue: DispatchQueue
    private let relay: RelayService
    let settings: @Sendable () -> Settings
    private let server = Mutex(Server())

    init(_ directory: AccountDirectory, _ relay: RelayService, settings: @escaping @Sendable () -> Settings) {
        store = directory.store
        queue = directory.queue
        self.relay = relay
        self.settings = settings
    }

    func connect(
        listeners: @escaping @Sendable () -> [String],
        drain: @escaping @Sendable (Int) -> Void,
        isDraining: @escaping @Sendable () -> Bool,
        reload: @escaping @Sendable () -> ReloadView
    ) {
        server.withLock {
            $0 = Server(listeners: listeners, drain: drain, isDraining: isDraining, reload: reload)
        }
    }

    func drain(seconds: Int) async { server.withLock { $0 }.drain(seconds) }

    func reload() async -> ReloadView { server.withLock { $0 }.reload() }

    func relayStatus() async -> RelayStatusView {
        let (server, snapshot) = (server.withLock { $0 }, await relay.freshSnapshot())
        let counters = snapshot.counters
        var drops: [String: UInt64] = [:]
        for reason in DropReason.allCases where counters[reason] > 0 { drops[reason.label] = counters[reason] }
        let control = counters.control
        var failures: [String: UInt64] = [:]
        for failure in AuthenticationFailure.allCases where control[failure] > 0 {
            failures[failure.label] = control[failure]
        }
        var errors: [String: UInt64] = [:]
        for code in ControlCounters.errorCodes where control[errorCode: code] > 0 {
            errors[code == 0 ? "other" : "\(code)"] = control[errorCode: code]
        }
        return RelayStatusView(
            version: Version.current,
            listen: server.listeners(),
            realm: settings().realm,
            workers: relay.workerCount,
            isDraining: server.isDraining(),
            allocations: snapshot.allocations,
            allocationsMade: counters.allocationsMade,
            packetsIn: counters.packetsIn,
            packetsToPeers: counters.packetsToPeers,
            packetsToClients: counters.packetsToClients,
            bytesToPeers: counters.bytesToPeers,
            bytesToClients: counters.bytesToClients,
            packetsDropped: counters.packetsDropped,
            drops: drops,
            authenticationFailures: counters.authenticationFailures,
            loginFailures: failures,
            errors: errors,
            connectionsAccepted: counters.connectionsAccepted,
            busyNanoseconds: snapshot.busyNanoseconds
        )
    }

    // MARK: Allocations

    func allocations(user: String?, limit: Int) async -> AllocationList {
        var found: [AllocationView] = []
        for worker in 0..<relay.workerCount {
            var first: UInt32? = 0
            // A page at a time: the worker forwards packets between two of them.
            while let from = first {
                let page = await withCheckedContinuation { continuation in
                    relay.send(.list(from: from) { continuation.resume(returning: $0) }, to: worker)
                }
                for details in page.allocations where user == nil || details.user == user {
                    guard found.count < limit else { return AllocationList(allocations: found, isCut: true) }
                    found.append(AllocationView(details, worker: worker))
                }
                first = page.next
            }
        }
        return AllocationList(allocations: found, isCut: false)
    }

    func endAllocation(_ id: String) async -> Bool {
        guard let place = AllocationPlace(id), place.worker < relay.workerCount else { return false }
        return await withCheckedContinuation { continuation in
            let command = RelayCommand.end(allocation: place.index, generation: place.generation) {
                continuation.resume(returning: $0)
            }
            relay.send(command, to: place.worker)
        }
    }

    // MARK: The store

    /// Runs on the directory's queue, as it may wait for the disk.
    func onStore<Value: Sendable>(
        _ body: @escaping @Sendable () throws -> Value
    ) async throws(APIProblem) -> Value {
        let outcome: Result<Value, APIProblem> = await withCheckedContinuation { continuation in
            queue.async {
                do {
                    continuation.resume(returning: .success(try body()))
                } catch let problem as APIProblem {
                    continuation.resume(returning: .failure(problem))
                } catch let error as AccountError {
                    continuation.resume(returning: .failure(APIProblem(error)))
                } catch let error as CredentialError {
                    continuation.resume(returning: .failure(APIProblem(error.isAboutInput ? 422 : 500, error.message)))
                } catch {
                    continuation.resume(returning: .failure(APIProblem(500, "\(error)")))
                }
            }
        }
        return try outcome.get()
    }
}

/// An allocation's name: which worker, which slot, which use of it. `t0-17-3`.
private struct AllocationPlace {
    let worker: Int
    let index: UInt32
    let generation: UInt32

    init?(_ text: String) {
        let parts = text.dropFirst().split(separator: "-", omittingEmptySubsequences: false)
        guard text.utf8.count <= 40, text.hasPrefix("t"), parts.count == 3, let worker = Int(parts[0]), worker >= 0,
            let index = UInt32(parts[1]), let generation = UInt32(parts[2])
        else { return nil }
        (self.worker, self.index, self.generation) = (worker, index, generation)
    }
}

extension AllocationView {
    fileprivate init(_ details: AllocationDetails, worker: Int) {
        self.init(
            id: "t\(worker)-\(details.index)-\(details.generation)",
            user: details.user,
            client: "\(SocketAddress(details.client))",
            transport: "\(details.transport)",
            relayed: details.relayed.map { "\(SocketAddress($0))" },
            bytesToPeers: details.traffic.bytesToPeers,
            bytesToClient: details.traffic.bytesToClient,
            packetsToPeers: details.traffic.packetsToPeers,
            packetsToClient: details.traffic.packetsToClient,
            permissions: details.permissions,
            channels: details.channels,
            ageSeconds: details.ageSeconds,
            expiresInSeconds: details.expiresInSeconds
        )
    }
}

extension APIProblem {
    init(_ error: AccountError) {
        switch error.code {
        case .notFound: self.init(404, error.message)
        case .alreadyExists: self.init(409, error.message)
        case .invalidName, .invalidRealm, .invalidValue: self.init(422, error.message)
        case .busy: self.init(503, error.message)
        default: self.init(500, error.message)
        }
    }
}

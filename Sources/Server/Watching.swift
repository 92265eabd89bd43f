import LinuxIO
import Relay
import ServiceLifecycle

/// Looks for changes of the account store twenty times a second: a look takes some microseconds, and who is kept out
/// should be so at once, and within a second on a machine that has no time to spare.
struct AccountPolling: Service {
    let directory: AccountDirectory
    let relay: RelayService

    func run() async throws {
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            directory.poll(relay)
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: .milliseconds(50)) }
        }
    }
}

/// Looks for changes of this machine's addresses once a second (case PA-41).
struct InterfaceWatching: Service {
    let server: TurnpikeServer

    func run() async throws {
        var known = try? Host.interfaceAddresses()
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: .seconds(1)) }
            guard let found = try? Host.interfaceAddresses(), found != known else { continue }
            known = found
            server.interfacesChanged()
        }
    }
}

/// Looks for a renewed certificate every ten seconds.
struct CertificateWatching: Service {
    let server: TurnpikeServer

    func run() async throws {
        var known = server.certificateStamp
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: .seconds(10)) }
            let found = server.certificateStamp
            guard found != known else { continue }
            known = found
            server.renewCertificate()
        }
    }
}

/// Gives the key of nonces its day, and then makes a new one.
struct NonceRotation: Service {
    let server: TurnpikeServer

    func run() async throws {
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            server.rotateNonceKeyIfDue()
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: .seconds(5)) }
        }
    }
}

/// Writes down every few seconds what users have relayed. With what the workers hold back (a report looks at every
/// allocation once in four seconds), a death of the process loses less than ten.
struct UsageRecording: Service {
    let directory: AccountDirectory
    let relay: RelayService

    func run() async throws {
        while !Task.isShuttingDownGracefully, !Task.isCancelled {
            directory.recordUsageLater(relay)
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: .seconds(4)) }
        }
    }
}

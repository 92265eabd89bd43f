import Foundation
import Gateway
import LinuxIO
import Logging
import OpenSSLCrypto
import Relay
import Settings
import Synchronization
import TURN

/// What a running server looks after by itself: its certificate, its keys, its limits and its addresses.
extension TurnpikeServer {
    private var servesTLS: Bool {
        servesDTLS || relay.streamListeners.contains(where: \.isTLS) || !gateway.listeners.isEmpty
    }

    /// Changes when the certificate's files do; nil where neither TLS nor DTLS is served.
    var certificateStamp: [Int]? {
        guard servesTLS else { return nil }
        return CertificateStore(state.withLock { $0.settings }).stamp
    }

    /// Has new sessions made from the certificate as it is now. One that does not hold leaves the old one in use.
    func renewCertificate() {
        guard servesTLS else { return }
        let store = CertificateStore(state.withLock { $0.settings })
        let names = certificateNames
        do {
            let certificates = try store.load(hosts: names.hosts, addresses: names.addresses)
            relay.send(.renew(certificates.tls))
            relay.send(.renew(certificates.dtls))
            relay.send(.renewShared(certificates.shared))
            gateway.renew(certificates.https)
            state.withLock { $0.certificateNotAfterSeconds = certificates.tls.notAfterSeconds }
            if let warning = store.warning(state.withLock({ $0.settings.hostName })) { logger.warning("\(warning)") }
            logger.notice(
                "certificate loaded",
                metadata: [
                    "file": .string(store.certificatePath),
                    "fingerprint": .string(Self.text(certificates.tls.fingerprint)),
                ]
            )
        } catch {
            logger.error("the certificate was not reloaded; the old one stays in use", metadata: ["reason": "\(error)"])
        }
    }

    /// Makes a new key for nonces where the present one is a day old. Nonces under that one stay good.
    func rotateNonceKeyIfDue() {
        let (directory, keys) = state.withLock { ($0.settings.dataDirectory, $0.nonceKeys) }
        let file = NonceKeyFile(dataDirectory: directory)
        guard file.isDue(atSeconds: Self.nowSeconds) else { return }
        do {
            let new = try file.rotate(keys)
            state.withLock { ($0.nonceKeys, $0.nonceTrouble) = (new, nil) }
            try apply()
            logger.notice("the key of nonces was renewed; nonces under the one before stay good")
        } catch {
            let reason = "\(error)"
            let isNew = state.withLock { state in
                defer { state.nonceTrouble = reason }
                return state.nonceTrouble != reason
            }
            if isNew { logger.error("the key of nonces was not renewed", metadata: ["reason": .string(reason)]) }
        }
    }

    private static var nowSeconds: Int64 { Int64(Date().timeIntervalSince1970) }

    /// Warns of limits that are nearly used up.
    func watchLimits(_ watch: inout LimitWatch) {
        let now = MonotonicClock.nanoseconds()
        let snapshot = relay.snapshot()
        let bytes = snapshot.counters.bytesToPeers &+ snapshot.counters.bytesToClients
        let (settings, before) = state.withLock { state in
            defer { state.surveyed = (bytes, now) }
            return (state.settings, state.surveyed)
        }
        // At the first look there is nothing to compare with.
        let seconds = before.nanoseconds == 0 ? 0 : Double(now &- before.nanoseconds) / 1e9
        let bits = Double((bytes &- before.bytes) &* 8)
        let rate = seconds > 0 ? Int(clamping: UInt64(min(bits / seconds, 1e18))) : 0
        let survey = survey(settings)
        let users = survey.takeUserUses()
        state.withLock { ($0.bitsPerSecond, $0.usersNearLimit) = (rate, users.count) }
        let uses = survey.uses(snapshot, bitsPerSecond: rate) + survey.portUses + users
        for use in watch.news(uses, atSeconds: now / 1_000_000_000) {
            var metadata: Logger.Metadata = [
                "limit": .string(use.name), "used": .stringConvertible(use.used), "of": .stringConvertible(use.limit),
            ]
            if let subject = use.subject { metadata["user"] = .string(subject) }
            logger.warning("a limit is four fifths used", metadata: metadata)
        }
    }

    func survey(_ settings: Settings) -> LimitSurvey {
        let total = settings.limits.allocationsTotal
        return LimitSurvey(
            relay: relay,
            settings: settings,
            memory: memory,
            allocationsTotal: total > 0 ? total : memory.allocations,
            descriptorLimit: descriptorLimit
        )
    }

    private static func text(_ fingerprint: [UInt8]) -> String {
        "sha256:" + fingerprint.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    /// Takes note of addresses that this machine has gained or lost: a peer on this very host is a relay of ours or
    /// nothing.
    func interfacesChanged() {
        do {
            try apply()
            logger.notice("this machine's addresses have changed; the peer policy follows")
        } catch {
            logger.error(
                "this machine's addresses have changed, and the peer policy could not follow",
                metadata: ["reason": "\(error)"]
            )
        }
    }
}

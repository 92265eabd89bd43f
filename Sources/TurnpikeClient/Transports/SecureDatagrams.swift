import OpenSSLCrypto
import Traversal

/// DTLS to a server over a UDP socket of its own. A `StreamLink` whose `.bytes` are one datagram each, and so are those
/// of `send`.
package final class SecureDatagrams: StreamLink {
    private let subject: String
    private let endpoint: Endpoint
    private let network: any ClientNetwork
    private let session: DTLSSession
    private var port: (any DatagramPort)?
    private var alarm: (any Alarm)?
    private var receive: ((StreamEvent) -> Void)?
    private var isOpen = false
    private var hasHeard = false
    private var givesUpAt: UInt64
    private var space = [UInt8](repeating: 0, count: ClientLimits.datagramRoomBytes)

    /// As for `SecureStream`.
    package init(
        to endpoint: Endpoint,
        serverName: String,
        trust: ServerTrust,
        protocols: [String],
        contexts: SecureContexts,
        network: any ClientNetwork,
        _ receive: @escaping (StreamEvent) -> Void
    ) throws(NetworkFailure) {
        subject = "DTLS to \(AddressText.text(endpoint))"
        self.endpoint = endpoint
        self.network = network
        do throws(TLSError) {
            let context = try contexts.context(trust, protocols: protocols, isDatagram: true)
            session = try DTLSSession(
                context,
                connectingTo: serverName,
                packetLimitBytes: ClientLimits.handshakeDatagramBytes,
                firstTimeoutMicroseconds: ClientLimits.flightTimeMicroseconds
            )
        } catch {
            throw NetworkFailure(.tls, "DTLS to \(AddressText.text(endpoint))", detail: "\(error)")
        }
        self.receive = receive
        givesUpAt = network.nowNanoseconds &+ ClientLimits.handshakeTime
        port = try network.openDatagrams(to: endpoint) { [weak self] event in
            self?.take(event)
        }
        alarm = network.alarm { [weak self] in self?.wake() }
        // The first flight goes with the loop's next turn, as does all that the caller is told.
        alarm?.set(at: network.nowNanoseconds)
    }

    deinit { port?.close() }

    package var queuedBytes: Int { 0 }

    package func send(_ bytes: UnsafeRawBufferPointer) {
        guard isOpen, let port else { return }
        let room = bytes.count + DTLSSession.sealedBytes
        withUnsafeTemporaryAllocation(byteCount: room, alignment: 16) { sealed in
            let count = session.seal(bytes, into: sealed)
            if count > 0 { port.send(UnsafeRawBufferPointer(rebasing: sealed[..<count]), to: endpoint) }
        }
    }

    package func close() {
        receive = nil
        if isOpen { session.shutdown() }
        flush()
        drop()
    }

    private func take(_ event: DatagramEvent) {
        switch event {
        case .datagram(let bytes, let source):
            guard source == endpoint else { return }
            hasHeard = true
            session.receive(bytes)
            flush()
            if session.state == .established, !isOpen {
                isOpen = true
                receive?(.opened(local: port?.local ?? Endpoint(address: .any(endpoint.family), port: 0)))
            }
            deliver()
            settle()
        // Of one who has been heard it may pass; the deadline decides.
        case .unreachable: if !hasHeard { end(port?.refusal ?? NetworkFailure(.refused, subject)) }
        case .failed(let failure): end(failure)
        }
    }

    private func deliver() {
        guard isOpen else { return }
        while receive != nil {
            let count = space.withUnsafeMutableBytes { session.read(into: $0) }
            guard count > 0 else { break }
            space.withUnsafeBytes { receive?(.bytes(UnsafeRawBufferPointer(rebasing: $0[..<count]))) }
        }
        flush()
    }

    /// Begins the handshake, and sends its flights again.
    private func wake() {
        guard !isOpen else { return }
        guard network.nowNanoseconds < givesUpAt else {
            return end(NetworkFailure(.timedOut, subject, detail: "the DTLS handshake was not answered in time"))
        }
        session.advance()
        session.handleTimeout()
        flush()
        settle()
    }

    private func settle() {
        switch session.state {
        case .handshaking:
            let wait = session.nextTimeoutNanoseconds.map { UInt64(max(0, $0)) } ?? ClientLimits.second
            alarm?.set(at: min(givesUpAt, network.nowNanoseconds &+ wait))
        case .established: alarm?.set(at: nil)
        case .closed: end(isOpen ? nil : NetworkFailure(session, subject))
        case .failed: end(NetworkFailure(session, subject))
        }
    }

    private func flush() {
        guard let port else { return }
        while session.hasOutput {
            let count = withUnsafeTemporaryAllocation(byteCount: ClientLimits.datagramRoomBytes, alignment: 16) {
                room in
                let count = session.takeOutput(into: room)
                if count > 0 { port.send(UnsafeRawBufferPointer(rebasing: room[..<count]), to: endpoint) }
                return count
            }
            guard count > 0 else { return }
        }
    }

    private func end(_ failure: NetworkFailure?) {
        let receive = receive
        self.receive = nil
        drop()
        receive?(.closed(failure))
    }

    private func drop() {
        alarm?.set(at: nil)
        alarm = nil
        port?.close()
        port = nil
    }
}

import OpenSSLCrypto
import Traversal

/// TLS over a stream: records on the side of the network, plaintext on the other. It is a `StreamLink` itself, and says
/// `.opened` when the handshake is over and the server is the one that was meant.
package final class SecureStream: StreamLink {
    private let subject: String
    private let session: TLSSession
    private var link: (any StreamLink)?
    private var deadline: (any Alarm)?
    private var receive: ((StreamEvent) -> Void)?
    /// What was sent before the handshake was over, and what the session did not take yet.
    private var waiting: [UInt8] = []
    private var local = Endpoint(address: .anyIPv4, port: 0)
    private var isOpen = false
    private var isOverflowing = false
    private let network: any ClientNetwork

    /// - Parameters:
    ///   - serverName: what the certificate is to be made out to, and SNI.
    ///   - protocols: to be named by ALPN.
    /// - Throws: where no session can be made: the trust names a file that cannot be read, or the name is none.
    package init(
        to endpoint: Endpoint,
        serverName: String,
        trust: ServerTrust,
        protocols: [String],
        contexts: SecureContexts,
        network: any ClientNetwork,
        _ receive: @escaping (StreamEvent) -> Void
    ) throws(NetworkFailure) {
        subject = "TLS to \(AddressText.text(endpoint))"
        do throws(TLSError) {
            let context = try contexts.context(trust, protocols: protocols, isDatagram: false)
            session = try TLSSession(context, connectingTo: serverName)
        } catch {
            throw NetworkFailure(.tls, "TLS to \(AddressText.text(endpoint))", detail: "\(error)")
        }
        self.receive = receive
        self.network = network
        // The links and alarms hold these closures until they are closed, and this object is to go when its owner lets
        // it go.
        deadline = network.alarm { [weak self] in
            guard let self else { return }
            self.end(
                self.isOverflowing
                    ? NetworkFailure(.overflow, self.subject)
                    : NetworkFailure(.timedOut, self.subject, detail: "the TLS handshake was not answered in time")
            )
        }
        deadline?.set(at: network.nowNanoseconds &+ ClientLimits.connectTime &+ ClientLimits.handshakeTime)
        link = network.connect(to: endpoint) { [weak self] event in self?.take(event) }
    }

    deinit { link?.close() }

    package var queuedBytes: Int { waiting.count + session.pendingOutput + (link?.queuedBytes ?? 0) }

    package func send(_ bytes: UnsafeRawBufferPointer) {
        guard link != nil else { return }
        guard waiting.isEmpty, isOpen, session.write(bytes) else {
            // The network's link closes for too many bytes by itself; these are not with it yet.
            if waiting.count + bytes.count <= ClientLimits.streamQueueBytes {
                waiting.append(contentsOf: bytes)
            } else {
                isOverflowing = true
                deadline?.set(at: network.nowNanoseconds)
            }
            return
        }
        flush()
    }

    package func close() {
        receive = nil
        if isOpen { session.shutdown() }
        flush()
        drop()
    }

    private func take(_ event: StreamEvent) {
        switch event {
        case .opened(let local):
            self.local = local
            session.advance()
            flush()
            settle()
        case .bytes(let bytes):
            session.receive(bytes)
            session.advance()
            flush()
            if session.state == .established { opened() }
            deliver()
            settle()
        case .writable:
            sendWaiting()
            if queuedBytes == 0 { receive?(.writable) }
        case .closed(let failure):
            guard isOpen || failure != nil else {
                return end(
                    NetworkFailure(.tls, subject, detail: "the server closed the connection in the handshake")
                )
            }
            // Without close_notify the end may be anybody's (RFC 8446 section 6.1).
            end(failure ?? NetworkFailure(.reset, subject))
        }
    }

    private func opened() {
        guard !isOpen else { return }
        isOpen = true
        deadline?.set(at: nil)
        receive?(.opened(local: local))
        sendWaiting()
    }

    private func sendWaiting() {
        guard isOpen, !waiting.isEmpty else { return }
        let taken = waiting.withUnsafeBytes { session.write($0) }
        if taken { waiting.removeAll() }
        flush()
    }

    private func deliver() {
        guard isOpen else { return }
        withUnsafeTemporaryAllocation(byteCount: Self.recordBytes, alignment: 16) { room in
            while receive != nil {
                let count = session.read(into: room)
                guard count > 0 else { return }
                receive?(.bytes(UnsafeRawBufferPointer(rebasing: room[..<count])))
            }
        }
        // An answer of the protocol itself, such as to a key update.
        flush()
    }

    private func settle() {
        switch session.state {
        case .handshaking, .established: break
        case .closed: end(isOpen ? nil : NetworkFailure(session, subject))
        case .failed:
            flush()
            end(NetworkFailure(session, subject))
        }
    }

    private func flush() {
        guard let link else { return }
        while session.pendingOutput > 0 {
            let taken = session.takeOutput { pending in
                link.send(pending)
                return pending.count
            }
            guard taken > 0 else { return }
        }
    }

    private func end(_ failure: NetworkFailure?) {
        let receive = receive
        self.receive = nil
        drop()
        receive?(.closed(failure))
    }

    private func drop() {
        deadline?.set(at: nil)
        deadline = nil
        link?.close()
        link = nil
        waiting = []
    }

    /// The longest plaintext of a record (RFC 8446 section 5.1).
    private static let recordBytes = 16_384
}

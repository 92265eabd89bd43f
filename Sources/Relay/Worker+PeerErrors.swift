import LinuxIO
import STUN
import TURN

/// What ICMP says of datagrams to peers (RFC 8656 section 11.5).
extension Worker {
    /// Takes the errors that wait at a relay socket. They are taken whether or not a client hears of them, since one
    /// that waits would wake the worker for ever.
    mutating func receivePeerErrors(_ allocation: UInt32, isSecondary: Bool) {
        let descriptor = engine.relayDescriptor(of: allocation, isSecondary: isSecondary)
        guard descriptor >= 0 else { return }
        receivePeerErrors(allocation, descriptor)
    }

    /// - Parameter sentTo: where the last datagram went, for an error of the kernel's that does not say which port.
    mutating func receivePeerErrors(_ allocation: UInt32, _ descriptor: Int32, sentTo: Endpoint? = nil) {
        var left = Self.errorsPerTurn
        // An answer that finds no room closes its connection, and the relay with it.
        while left > 0, holds(descriptor, allocation), let error = SocketError.take(from: descriptor) {
            left &-= 1
            guard var report = PeerErrorReport(error) else { continue }
            if report.destination.port == 0, let sentTo, sentTo.address == report.destination.address {
                report.destination.port = sentTo.port
            }
            tell(report, allocation)
        }
    }

    private func holds(_ descriptor: Int32, _ allocation: UInt32) -> Bool {
        engine.relayDescriptor(of: allocation, isSecondary: false) == descriptor
            || engine.relayDescriptor(of: allocation, isSecondary: true) == descriptor
    }

    private mutating func tell(_ report: PeerErrorReport, _ allocation: UInt32) {
        if repliesUsed == Self.replySlots { flushClients() }
        let reply = UnsafeMutableRawBufferPointer(rebasing: replies[reply(Self.replyBytes)])
        guard let length = engine.peerError(report, allocation: allocation, at: now, into: reply) else { return }
        let client = engine.client(of: allocation)
        sendReply(length, client.tuple, ClientRoute(rawValue: client.listener))
    }
}

extension PeerErrorReport {
    /// - Returns: nil for errors of the kernel's own that no router would tell by ICMP.
    init?(_ error: SocketError) {
        let destination = Endpoint(error.destination)
        switch error.origin {
        case .icmp, .icmp6:
            self.init(destination: destination, type: error.type, code: error.code, mtu: error.information)
        case .kernel:
            guard error.number == Errno.messageTooLong else { return nil }
            self.init(tooLongFor: destination, mtu: error.information)
        }
    }
}

extension PathMTUDiscovery {
    /// What relay sockets have unless a client asks for DF. DF stays clear, so that a datagram longer than a hop's MTU
    /// is cut and not lost (RFC 8656 section 15). With IPv4's `dont` the kernel would keep to itself what routers say
    /// of datagrams that had DF when they left.
    static func ofRelay(isIPv4: Bool) -> PathMTUDiscovery { isIPv4 ? .omit : .dont }
}

import TurnpikeClient

/// What to load a server with, checked: nothing in here can hurt anybody by a slip of the finger.
package struct BenchPlan: Equatable, Sendable {
    package enum Rate: Equatable, Sendable {
        case fixed(packetsPerSecond: Int)
        /// The highest without loss.
        case search
    }

    package var host: String
    package var port: UInt16
    package var transport: TURNConfiguration.Transport
    package var connections: Int
    package var rate: Rate
    package var packetBytes: Int
    package var durationSeconds: Int

    /// - Throws: what is wrong with the arguments, and the mend.
    package init(
        server: String,
        transport: TURNConfiguration.Transport?,
        connections: Int,
        rate: Rate,
        packetBytes: Int,
        duration: String
    ) throws(Refusal) {
        let url: ServerURL
        do throws(ServerURLProblem) {
            url = try ServerURL(server, usual: .turn)
        } catch {
            throw Refusal("--server: \(error.description.escapedForTerminal)")
        }
        (host, port) = (url.host, url.port)
        let usual = url.usualTransport
        if let transport, !url.transports.contains(transport), url.transport != nil || url.scheme == .turns {
            throw Refusal(
                "--server says \(usual.word) and --transport says \(transport.word); leave one of them out"
            )
        }
        self.transport = transport ?? usual
        guard Self.connectionCounts.contains(connections), connections.isMultiple(of: 2) else {
            throw Refusal(
                "--connections \(connections): connections send to each other in pairs, so give an even number from "
                    + "\(Self.connectionCounts.lowerBound) to \(Self.connectionCounts.upperBound)"
            )
        }
        if case .fixed(let rate) = rate, !Self.rates.contains(rate) {
            throw Refusal(
                "--rate \(rate): give packets per second, from \(Self.rates.lowerBound) to "
                    + "\(Self.rates.upperBound), or --search"
            )
        }
        guard Self.packetSizes.contains(packetBytes) else {
            throw Refusal(
                "--size \(packetBytes): give bytes of data in a packet, from \(Self.packetSizes.lowerBound), which "
                    + "hold its number and time, to \(Self.packetSizes.upperBound), which go through unfragmented"
            )
        }
        guard let seconds = TimeText.seconds(duration), Self.durations.contains(seconds) else {
            throw Refusal(
                "--duration \(duration.escapedForTerminal): give a time such as 10s or 2m, up to "
                    + TimeText.duration(seconds: UInt64(Self.durations.upperBound))
            )
        }
        (self.connections, self.rate, self.packetBytes, durationSeconds) = (connections, rate, packetBytes, seconds)
    }

    /// Each takes a socket here and a relay port there; a thousand is more than servers allow one user.
    package static let connectionCounts = 2...1_000
    /// More than one process can send.
    package static let rates = 1...2_000_000
    /// What fits with all headers into a path of 1,500 bytes, DTLS and IPv6 included.
    package static let packetSizes = LoadPacket.headerBytes...1_350
    /// A load is a burden to others: it ends by itself.
    package static let durations = 1...600

    /// Arguments that make no sense.
    package struct Refusal: Error, Equatable, Sendable {
        package let message: String

        init(_ message: String) {
            self.message = message
        }
    }

    /// As people write it.
    var server: String {
        let name = host.contains(":") ? "[\(host)]" : host
        return "\(name):\(port)"
    }
}

extension ServerURL {
    /// What the URL means where nobody says otherwise (RFC 7065 section 3.1).
    var usualTransport: TURNConfiguration.Transport {
        switch (scheme, transport) {
        case (.turns, .udp): .dtls
        case (.turns, _): .tls
        case (_, .tcp): .tcp
        default: .udp
        }
    }
}

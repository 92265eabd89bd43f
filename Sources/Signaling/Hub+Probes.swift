/// A client whose port is being connected to.
struct OpenProbe {
    let session: Session
    /// JSON; empty where the request had none.
    let id: [UInt8]
}

/// A client behind a NAT cannot find out by itself what the NAT does with a connection that nobody asked for: somebody
/// has to try. The server tries with one port of the very address that the client's WebSocket comes from. A client
/// chooses no address, so nobody else can be reached by this, and it has few tries.
extension Hub {
    func probeTCP(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        guard let port = try request.message.wholeNumber(.port), let port = UInt16(exactly: port),
            port >= SignalingLimits.probePortMin
        else { throw Refusal(.badMessage, "port must be from \(SignalingLimits.probePortMin) to 65535") }
        let now = request.now.monotonicNanoseconds
        guard probes.count < SignalingLimits.probesMax else {
            throw .rateLimited("Too many probes", wait: SignalingLimits.probeSeconds &* 1_000_000_000)
        }
        let (user, address) = (request.session.user, request.connection.address)
        let wait = max(
            user.probes.waitNanoseconds(of: SignalingLimits.userProbes, now: now),
            address.probes.waitNanoseconds(of: SignalingLimits.addressProbes, now: now)
        )
        if wait > 0 { throw .rateLimited("Too many probes", wait: wait) }
        user.probes.take(of: SignalingLimits.userProbes, now: now)
        address.probes.take(of: SignalingLimits.addressProbes, now: now)
        lastTicket &+= 1
        probes[lastTicket] = OpenProbe(session: request.session, id: Array(request.id))
        actions.append(.probeTCP(ProbeTicket(rawValue: lastTicket), request.connection.id, port: port))
    }

    /// The connection was tried.
    package func probed(_ ticket: ProbeTicket, _ report: ProbeReport, now: HubTime, into actions: inout [Action]) {
        guard let probe = probes.removeValue(forKey: ticket.rawValue), !probe.session.isEnded else { return }
        var writer = FrameWriter("probe-tcp", reserving: 128 + probe.id.count)
        writer.member("outcome", name: report.outcome.name)
        if !report.address.isEmpty {
            writer.member("address", report.address)
            writer.member("from", report.from)
        }
        writer.echo(probe.id)
        // A client that comes back asks anew: it may have another address.
        deliver(writer.finish(), to: probe.session, isLasting: false, &actions)
        settle(now, &actions)
    }
}

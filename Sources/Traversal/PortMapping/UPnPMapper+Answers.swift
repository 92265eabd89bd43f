import STUN

extension UPnPMapper {
    mutating func take(
        _ status: UInt16,
        _ body: [UInt8],
        _ job: Job,
        _ now: UInt64,
        _ actions: inout [PortMappingAction]
    ) {
        exchange = nil
        let isDone = (200...299).contains(status)
        // UPnP Device Architecture 1.1 section 3.2.2: a fault has its code in the body.
        let code = isDone ? nil : Markup.value("errorCode", in: body).flatMap { UInt16($0) }
        if isDone || code != nil { failures = 0 }
        switch job {
        case .describe(let location):
            let services = isDone ? UPnPService.all(in: body, at: location) : []
            (service, otherServices) = (services.first, Array(services.dropFirst()))
            if service == nil { availability = .refused(.badAnswer) }
        case .address: takeAddress(isDone ? Markup.value("NewExternalIPAddress", in: body) : nil, code, now)
        case .add(let port):
            guard let index = leases.firstIndex(where: { $0.port == port }) else { return }
            if isDone {
                grant(index, now, &actions)
            } else if let code {
                refuse(index, code, now, &actions)
            } else {
                fail(job, now, &actions)
            }
        case .delete(let port): forget(port)
        }
    }

    /// No answer came, or none that is one.
    mutating func fail(_ job: Job, _ now: UInt64, _ actions: inout [PortMappingAction]) {
        exchange = nil
        switch job {
        case .describe: availability = .refused(.badAnswer)
        case .delete(let port): forget(port)
        case .address, .add:
            failures += 1
            pausedUntil = now.addingSaturated(Limits.second)
            guard failures >= PortMappingLimits.failures else { return }
            // A device that has started anew may answer at another port. One that never worked is left alone.
            if !hasWorked { availability = .refused(.badAnswer) }
            search(hasWorked ? now : now.addingSaturated(PortMappingLimits.searchAgain))
        }
    }

    mutating func lose(_ index: Int, _ actions: inout [PortMappingAction]) {
        leases[index].external = nil
        leases[index].expiresAt = .max
        // Otherwise another protocol has the port by now.
        if isWanted { actions.append(.lost(leases[index].port)) }
    }

    private mutating func forget(_ port: InternalPort) {
        guard let index = leases.firstIndex(where: { $0.port == port }) else { return }
        leases[index].external = nil
        (leases[index].nextAt, leases[index].expiresAt) = (0, .max)
    }

    private mutating func takeAddress(_ text: String?, _ code: UInt16?, _ now: UInt64) {
        let address = text.flatMap { AddressText.address($0) }
        if let address, address.isIPv4, address.v4 != 0 {
            external = address
            externalAskedAt = now
            hasWorked = true
            if case .refused = availability, !leases.contains(where: { $0.conflicts > 0 }) {
                availability = .available
            } else if availability == .unknown || availability == .silent {
                availability = .available
            }
            return
        }
        // A gateway has a service for each way that it may be connected, and one of them is.
        if !otherServices.isEmpty { return service = otherServices.removeFirst() }
        availability = .refused(code.map { PortMappingFailure(upnp: $0) } ?? .networkFailure)
        pausedUntil = now.addingSaturated(PortMappingLimits.refusalPause)
    }

    private mutating func grant(_ index: Int, _ now: UInt64, _ actions: inout [PortMappingAction]) {
        guard let external else { return }
        availability = .available
        leases[index].conflicts = 0
        leases[index].nextAt = now.addingSaturated(PortMappingLimits.leaseCheck)
        leases[index].expiresAt =
            leases[index].isPermanent
            ? .max : now.addingSaturated(UInt64(PortMappingLimits.leaseSeconds) * Limits.second)
        let endpoint = Endpoint(address: external, port: leases[index].externalPort)
        guard leases[index].external != endpoint else { return }
        leases[index].external = endpoint
        actions.append(
            .granted(
                PortMapping(
                    port: leases[index].port,
                    external: endpoint,
                    by: .upnp,
                    lifetimeSeconds: leases[index].isPermanent ? 0 : PortMappingLimits.leaseSeconds
                )
            )
        )
    }

    /// WANIPConnection:2 section 2.5.16, and what devices make of it.
    private mutating func refuse(
        _ index: Int,
        _ code: UInt16,
        _ now: UInt64,
        _ actions: inout [PortMappingAction]
    ) {
        switch code {
        // OnlyPermanentLeasesSupported. Some devices mean that by "invalid arguments" and "action failed", too.
        case 402, 501, 725:
            guard leases[index].isPermanent else { return leases[index].isPermanent = true }
            if code == 501 { return tryAnother(index, code, now, &actions) }
        // ConflictInMappingEntry, ConflictWithOtherMechanisms.
        case 718, 729: return tryAnother(index, 718, now, &actions)
        default: break
        }
        giveUp(index, code, now, &actions)
    }

    /// Another external port, as far as there are tries left.
    private mutating func tryAnother(
        _ index: Int,
        _ code: UInt16,
        _ now: UInt64,
        _ actions: inout [PortMappingAction]
    ) {
        guard leases[index].conflicts < PortMappingLimits.conflicts else { return giveUp(index, code, now, &actions) }
        leases[index].conflicts += 1
        let range = UInt64(UInt16.max) - 1_023
        leases[index].externalPort = UInt16(truncatingIfNeeded: 1_024 + cryptography.randomNumber() % range)
        if leases[index].external != nil { lose(index, &actions) }
    }

    private mutating func giveUp(
        _ index: Int,
        _ code: UInt16,
        _ now: UInt64,
        _ actions: inout [PortMappingAction]
    ) {
        availability = .refused(PortMappingFailure(upnp: code))
        if leases[index].external != nil { lose(index, &actions) }
        leases[index].conflicts = 0
        leases[index].externalPort = leases[index].port.port
        leases[index].nextAt = now.addingSaturated(PortMappingLimits.refusalPause)
    }
}

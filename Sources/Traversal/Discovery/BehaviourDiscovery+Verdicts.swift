import STUN

/// What follows from the answers, and from their absence.
extension BehaviourDiscovery {
    /// Whether waiting longer can change nothing that the name depends on.
    func isSettled(now: UInt64) -> Bool {
        guard report.answeringServers.count + report.silentServers.count == servers.count else { return false }
        if let pair {
            let asked = Set(sightings.map(\.server))
            guard pair.corners.allSatisfy(asked.contains) else { return false }
            guard filterTestsAreOver, filters[.both]?.source != nil || proving.isEmpty else { return false }
        }
        guard nextSample >= Limits.allocationSamples else { return false }
        return report.hairpin.value != nil || hairpinSent >= Limits.hairpinCopies && alarms[.hairpinCopy] == nil
    }

    private var filterTestsAreOver: Bool {
        guard !filters.isEmpty else { return FilterTest.allCases.allSatisfy { sockets[$0.rawValue] == nil } }
        if filters[.both]?.source != nil { return true }
        return alarms[.filterRound] == nil && alarms[.look] == nil
    }

    /// Tells the name, and closes the sockets that are of no more use.
    mutating func conclude(now: UInt64, into actions: inout [Action]) {
        guard !isConcluded else { return }
        if isStarted, !servers.isEmpty, report.local != nil {
            let answered = Set(report.answeringServers)
            report.silentServers = servers.map(\.endpoint).filter { !answered.contains($0) }
            judge()
        }
        isConcluded = true
        alarms = [:]
        _ = transactions.abandon()
        actions.append(.concluded(report))
        // Socket 0 stays open for the caller, whose mapping it is; all others have done their work.
        for socket in sockets.keys.sorted() where socket != 0 { close(socket, into: &actions) }
        if lifetimes.isEmpty {
            endQuietly()
        } else if !beginLifetime(into: &actions) {
            actions.append(.refined(report))
        }
    }

    private mutating func judge() {
        guard !report.answeringServers.isEmpty else {
            report.name = silentName()
            let silence = "no server has answered"
            report.mapping = .undetermined(silence)
            report.filtering = .undetermined(silence)
            report.hairpin = .undetermined(silence)
            report.allocation = .undetermined(silence)
            return
        }
        report.isTranslated = isTranslated()
        report.mapping = mapping()
        report.filtering = filtering()
        report.hairpin = hairpin()
        report.allocation = allocation()
        report.isFirewalled = isFirewalled()
        report.name = name()
    }

    /// Silence is the way's fault where a server is known to run, or several are silent.
    func silentName() -> Determination<NATName> {
        let isKnown = servers.contains { knownToRun.contains($0.endpoint) }
        let addresses = Set(servers.map(\.endpoint.address))
        if isKnown || addresses.count > 1 { return .determined(.blocked) }
        return .undetermined("the only server does not answer: UDP may be blocked, or the server be down")
    }

    private func name() -> Determination<NATName> {
        let translated: Bool
        switch report.isTranslated {
        case .determined(let value): translated = value
        case .undetermined(let reason): return .undetermined(reason)
        }
        switch report.mapping {
        case .determined(let mapping) where !mapping.isIndependent: return .determined(.symmetric)
        case .undetermined(let reason) where translated: return .undetermined(reason)
        default: break
        }
        guard translated else { return .determined(.open) }
        switch report.filtering {
        case .determined(.endpointIndependent): return .determined(.fullCone)
        case .determined(.addressDependent): return .determined(.restricted)
        case .determined(.addressAndPortDependent): return .determined(.portRestricted)
        case .undetermined(let reason): return .undetermined(reason)
        }
    }

    /// IP address and port are compared: a NAT that keeps the port is a NAT all the same.
    private func isTranslated() -> Determination<Bool> {
        guard let local = report.local, !sightings.isEmpty else { return .undetermined("no server has answered") }
        let isWildcard =
            local.address.isIPv4 ? local.address.v4 == 0 : local.address.high == 0 && local.address.low == 0
        if sightings.contains(where: { $0.mapped.port != local.port }) { return .determined(true) }
        if isWildcard { return .undetermined("the socket's own address is not known") }
        let own = local.address.withoutLink
        return .determined(sightings.contains { $0.mapped.address.withoutLink != own })
    }

    private func isFirewalled() -> Determination<Bool> {
        guard report.isTranslated.value == false else { return .undetermined("addresses are translated") }
        switch report.filtering {
        case .determined(let filtering): return .determined(filtering != .endpointIndependent)
        case .undetermined(let reason): return .undetermined(reason)
        }
    }

    /// RFC 5780 section 4.3, from whatever servers there are.
    func mapping() -> Determination<NATMapping> {
        var addressesDiffer: Bool?
        var portsDiffer: Bool?
        for (index, one) in sightings.enumerated() {
            for other in sightings[..<index] {
                let differs = one.mapped != other.mapped
                if one.server.address != other.server.address {
                    addressesDiffer = addressesDiffer ?? false || differs
                } else if one.server.port != other.server.port {
                    portsDiffer = portsDiffer ?? false || differs
                }
            }
        }
        if portsDiffer == true { return .determined(.addressAndPortDependent) }
        switch addressesDiffer {
        case true?: return .determined(portsDiffer == false ? .addressDependent : .endpointDependent)
        case false?: return .determined(.endpointIndependent)
        case nil:
            return .undetermined(
                pair == nil
                    ? "it takes servers on two addresses to tell"
                    : "the server's second address has not answered in time"
            )
        }
    }

    /// RFC 5780 section 4.4. Silence counts as the filter's only where plain requests came back at the same time, where
    /// the address an answer was to come from does answer, and where the server was seen to answer from there when it
    /// was asked elsewhere. Behind a mapping that depends on the destination nothing can be seen of that, nor does the
    /// name depend on it.
    private func filtering() -> Determination<NATFiltering> {
        guard let pair else { return .undetermined("no server has a second address to answer from") }
        guard let both = filters[.both], let port = filters[.port] else {
            return .undetermined("no fresh socket could be opened")
        }
        if both.isRefused || port.isRefused {
            return .undetermined("the server does not answer from its second address")
        }
        if let source = both.source {
            return source.address != pair.first.address && source.port != pair.first.port
                ? .determined(.endpointIndependent)
                : .undetermined("the server answers from the address it was asked at")
        }
        let heard = Set(sightings.map(\.server))
        guard heard.contains(pair.second) else {
            return .undetermined("the server's second address has not answered in time")
        }
        let isProvable = report.mapping.value?.isIndependent ?? true
        guard proved.contains(.both) || !isProvable else {
            return .undetermined("the server was not heard to answer from its second address")
        }
        guard both.proved >= Limits.filterRoundsProved else { return .undetermined("too few answers came in time") }
        if let source = port.source {
            return source.address == pair.first.address && source.port != pair.first.port
                ? .determined(.addressDependent)
                : .undetermined("the server answers from the port it was asked at")
        }
        guard heard.contains(Endpoint(address: pair.first.address, port: pair.second.port)) else {
            return .undetermined("the server's second port has not answered in time")
        }
        guard proved.contains(.port) || !isProvable else {
            return .undetermined("the server was not heard to answer from its second port")
        }
        guard port.proved >= Limits.filterRoundsProved else { return .undetermined("too few answers came in time") }
        return .determined(.addressAndPortDependent)
    }

    private func hairpin() -> Determination<Bool> {
        guard report.isTranslated.value == true else { return .undetermined("addresses are not translated") }
        if report.hairpin.value == true { return .determined(true) }
        guard let mapping = report.mapping.value else { return .undetermined("it takes the mapping to tell") }
        guard mapping.isIndependent else {
            return .undetermined("a socket that has another address for each destination cannot try it")
        }
        guard hairpinSent >= Limits.hairpinCopies, alarms[.hairpinCopy] == nil else {
            return .undetermined("there was no time to find out")
        }
        return .determined(false)
    }

    private func allocation() -> Determination<NATPortAllocation> {
        guard let local = report.local, let mapped = report.mapped else {
            return .undetermined("no server has answered")
        }
        let first = PortPattern.Sample(local: local.port, mapped: mapped.port)
        let others = otherPorts + sightings.map(\.mapped.port) + (hairpinMapped.map { [$0.port] } ?? [])
        return PortPattern.allocation([first] + samples.sorted { $0.key < $1.key }.map(\.value), others: others)
    }
}

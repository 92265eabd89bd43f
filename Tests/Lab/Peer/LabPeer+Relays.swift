import STUN
import Traversal

/// The relays of a peer: one for each transport that is needed.
extension LabPeer {
    /// By the first transport at once, and by the others where that takes long (RFC 8305's spacing).
    func openRelays() {
        for (index, transport) in options.transports.enumerated() {
            internet.scheduler.after(seconds: Double(index) * options.headStartSeconds) { [weak self] in
                guard let self, !isClosed, index == 0 || !links.contains(where: { $0.isWanted && $0.isOpen }) else {
                    return
                }
                openRelay(transport)
            }
        }
    }

    /// A new relay in the place of each: the servers may have forgotten those there are, or know this side by an
    /// address that it has no more. They stay until the new one has had time to take over, for it may be the way that
    /// was broken and not they.
    func renewRelays() {
        for link in links where link.isOpen { link.isWanted = false }
        openRelays()
    }

    private func openRelay(_ transport: TURNConfiguration.Transport) {
        guard !links.contains(where: { $0.isWanted && $0.transport == transport }) else { return }
        let relay = internet.relay("turn")
        var server = relay.endpoint()
        if transport.isStream { server.port = options.streamPort }
        let credential = TURNCredential(username: name, password: Self.password(name))
        let link = RelayLink(
            host,
            nextBase(),
            TURNConfiguration(server: server, transport: transport, credential: credential),
            cryptography
        )
        links.append(link)
        link.onAction = { [weak self, weak link] action in
            if let self, let link { perform(action, of: link) }
        }
        link.open()
    }

    private func perform(_ action: TURNAction, of link: RelayLink) {
        guard !isClosed, links.contains(where: { $0 === link }) else { return }
        switch action {
        case .allocated(let allocation):
            patience[link.transport] = nil
            retireReplaced()
            let candidates = ICELocalCandidate.relayed(
                allocation,
                at: internet.relay("turn").endpoint(),
                by: link.transport,
                localPreference: link.transport == .udp ? 65_535 : 32_767,
                // The servers give one address, of IPv4.
                bases: { _ in link.base }
            )
            for candidate in candidates {
                // The peer's relay is by the same server as a rule, so that what it sends is let in before the peer
                // and its candidates are known here.
                link.permit(candidate.endpoint.address)
                add(candidate)
            }
        case .refused(let peer, _):
            let base = link.base
            core.step { machine, now, actions in
                machine.turn(&actions) { ice, wanted in ice.refuse(peer, on: base, now: now, into: &wanted) }
            }
        case .received(let bytes, let peer):
            let base = link.base
            core.step { machine, now, actions in
                machine.take(bytes, on: base, from: peer, now: now, into: &actions)
            }
        case .ended:
            drop(link)
            if link.isWanted { openAgain(link.transport) }
        default: break
        }
    }

    /// The library keeps a relay for as long as its server does: one that the path goes by is not taken from under it.
    private func retireReplaced() {
        guard !isRetiring else { return }
        isRetiring = true
        internet.scheduler.after(seconds: 5) { [weak self] in
            guard let self, !isClosed else { return }
            isRetiring = false
            for link in links where !link.isWanted && link.base != path?.base { drop(link) }
            if links.contains(where: { !$0.isWanted }) { retireReplaced() }
        }
    }

    private func drop(_ link: RelayLink) {
        links.removeAll { $0 === link }
        remove(link.base)
        guard !link.hasEnded else { return }
        // It is kept until it has given its allocation back.
        closing.append(link)
        link.onAction = { [weak self, weak link] action in
            if case .ended = action { self?.closing.removeAll { $0 === link } }
        }
        link.close()
    }

    /// At once, and then with longer and longer pauses.
    private func openAgain(_ transport: TURNConfiguration.Transport) {
        let pause = patience[transport] ?? 0
        patience[transport] = min(30, max(0.5, 2 * pause))
        internet.scheduler.after(seconds: pause) { [weak self] in
            guard let self, !isClosed else { return }
            openRelay(transport)
        }
    }
}

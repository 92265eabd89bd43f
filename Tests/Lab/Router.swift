import STUN

/// Stands between a network and the next: a home router, a carrier's NAT, a firewall.
package final class Router: Node {
    package let name: String
    package let inside: Network
    package private(set) lazy var attachment = Attachment(self, to: outer, outerLink)
    /// What passes may be changed while it runs; how strictly it filters may not.
    package var firewall: Firewall
    /// IPv4 is translated, unless there is no NAT.
    package let behavior: NATBehavior?
    /// Answers hosts that want ports mapped, where it does.
    package private(set) var portMapping: PortMappingService?
    private unowned let internet: Internet
    private unowned let outer: Network
    private let outerLink: Link
    private let v4: Translator
    private let v6: Translator

    init(
        _ name: String,
        from inside: Network,
        to outer: Network,
        _ behavior: NATBehavior?,
        _ firewall: Firewall,
        _ link: Link
    ) {
        self.name = name
        self.inside = inside
        self.firewall = firewall
        self.behavior = behavior
        internet = outer.internet
        let dice = Dice(seed: internet.seed, for: "router \(name)")
        let addresses =
            behavior.map { behavior in (0..<behavior.publicAddressCount).map { _ in outer.pool.takeV4() } } ?? []
        v4 = Translator(behavior ?? firewall.behavior, publicAddresses: addresses, dice: dice)
        v6 = Translator(firewall.behavior, publicAddresses: [], dice: dice)
        self.outer = outer
        outerLink = link
        for address in addresses { attachment.add(address) }
        inside.router = self
    }

    package var link: Link { attachment.link }

    package var publicAddresses: [IPAddress] { v4.publicAddresses }

    package var publicAddress: IPAddress { v4.publicAddresses.first ?? IPAddress(v4: 0) }

    /// Live mappings, of IPv4 and of IPv6.
    package var mappingCount: Int { v4.mappingCount(internet.now) + v6.mappingCount(internet.now) }

    /// Starts anew and has forgotten all mappings.
    package func reboot() {
        v4.reset(publicAddresses: v4.publicAddresses)
        v6.reset(publicAddresses: [])
        portMapping?.reboot()
    }

    /// From here on it maps ports when it is asked to, by PCP and NAT-PMP.
    @discardableResult
    package func mapPorts() -> PortMappingService {
        let service = PortMappingService(self, internet)
        portMapping = service
        return service
    }

    func setExplicit(_ mappings: [ExplicitMapping]) { v4.setExplicit(mappings) }

    /// Gets other public addresses, as many as before, and has forgotten all mappings.
    package func renumber() {
        let old = v4.publicAddresses
        for address in old { attachment.remove(address) }
        let new = old.map { _ in outer.pool.takeV4() }
        v4.reset(publicAddresses: new)
        v6.reset(publicAddresses: [])
        for address in new { attachment.add(address) }
    }

    // MARK: Addresses that are not translated are reached from outside too

    func announceFromInside(_ address: IPAddress) {
        if isTranslated(address) { return }
        attachment.add(address)
    }

    func withdrawFromInside(_ address: IPAddress) {
        if isTranslated(address) { return }
        attachment.remove(address)
    }

    private func isTranslated(_ address: IPAddress) -> Bool { address.isIPv4 && behavior != nil }

    // MARK: Packets

    func receiveFromInside(_ packet: Packet) {
        guard var packet = aged(packet, inside.carry) else { return }
        guard passes(packet, remote: packet.destination) else { return drop(packet, .firewall) }
        let translator = packet.source.address.isIPv4 ? v4 : v6
        if translator.publicAddresses.contains(packet.destination.address) { return hairpin(packet, translator) }
        switch translator.outbound(&packet, now: internet.now) {
        case .pass:
            note(packet, translator)
            attachment.send(packet)
        case .drop(let reason): drop(packet, reason)
        }
    }

    func receive(_ packet: Packet, at attachment: Attachment) {
        guard var packet = aged(packet, attachment.send) else { return }
        guard passes(packet, remote: packet.source) else { return drop(packet, .firewall) }
        let translator = packet.destination.address.isIPv4 ? v4 : v6
        let original = packet
        switch translator.inbound(&packet, now: internet.now) {
        case .pass:
            note(packet, translator)
            inside.carry(packet)
        case .drop(let reason):
            drop(original, reason)
            refuse(original, translator) { attachment.send($0) }
        }
    }

    private func hairpin(_ packet: Packet, _ translator: Translator) {
        var packet = packet
        if case .drop(let reason) = translator.hairpin(&packet, now: internet.now) { return drop(packet, reason) }
        note(packet, translator)
        inside.carry(packet)
    }

    private func aged(_ packet: Packet, _ back: (Packet) -> Void) -> Packet? {
        var packet = packet
        packet.hopLimit -= 1
        if packet.hopLimit > 0 { return packet }
        drop(packet, .hopLimit)
        internet.complain(.hopLimitExceeded, packet, back)
        return nil
    }

    private func passes(_ packet: Packet, remote: Endpoint) -> Bool {
        firewall.passes(packet.transport, remotePort: remote.port)
    }

    /// Answers what nobody asked for, where the behaviour is to answer.
    private func refuse(_ packet: Packet, _ translator: Translator, _ send: (Packet) -> Void) {
        guard let transport = packet.transport, translator.behavior.unsolicited(transport) == .reject else { return }
        guard case .segment(let segment) = packet.body else {
            return internet.complain(.portUnreachable, packet, send)
        }
        guard let reset = segment.reset else { return }
        var answer = Packet(source: packet.destination, destination: packet.source, body: .segment(reset))
        answer.number = internet.nextPacketNumber()
        internet.note(.sent, answer, at: name)
        send(answer)
    }

    private func drop(_ packet: Packet, _ reason: Drop) { internet.note(.dropped(reason), packet, at: name) }

    private func note(_ packet: Packet, _ translator: Translator) {
        if !translator.isFirewall { internet.note(.translated, packet, at: name) }
    }
}

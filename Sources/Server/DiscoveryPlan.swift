import LinuxIO
import Relay
import STUN
import Settings
import TURN

/// What `listen.alternate` means on this machine: the sockets it takes besides the listeners, and the pairs of
/// addresses for NAT behaviour discovery (RFC 5780 section 6).
struct DiscoveryPlan {
    /// UDP sockets to open so that all four combinations of addresses and ports have one.
    private(set) var listeners: [Endpoint] = []
    private(set) var streamListeners: [StreamAddress] = []
    /// Not attached to sockets yet.
    private(set) var discovery = NATDiscovery()
    /// Why a second address cannot serve, with the mend. A running server goes on without it, as it does without any
    /// other address that is taken from it.
    private(set) var problems: [String] = []

    /// - Parameters:
    ///   - listeners: what is listened on besides, for UDP and for TCP.
    init(
        _ settings: Settings,
        _ interfaces: [InterfaceAddress],
        listeners udp: [Endpoint],
        streamListeners streams: [StreamAddress]
    ) {
        discovery.isEnabled = settings.natDiscovery
        for second in settings.listen.alternate {
            let alternate = Endpoint(second)
            guard alternate.address.isLoopback || interfaces.contains(where: { $0.address == alternate.address }) else {
                problems.append("\(second) is no address of this machine; name its second address")
                continue
            }
            // The settings have been checked for this. A machine without IPv6 goes without the wildcard's listener,
            // though.
            guard let listener = settings.listen.primary(of: second).map(Endpoint.init), udp.contains(listener) else {
                problems.append("\(second) has no listener beside it in listen.udp; add one")
                continue
            }
            guard let address = Self.primaryAddress(listener, besides: alternate.address, interfaces) else {
                problems.append("\(second) is the only address of this machine; a second one must stand beside it")
                continue
            }
            let pair = NATDiscovery.Pair(
                primary: Endpoint(address: address, port: listener.port),
                alternate: alternate,
                isWildcard: listener.isWildcard
            )
            add(pair, listener, udp, streams)
        }
    }

    /// Opens what the pair lacks. A wildcard listener takes the second address with the first port too, and is doubled
    /// for the second port: its answers leave from whichever address they have to.
    private mutating func add(
        _ pair: NATDiscovery.Pair,
        _ listener: Endpoint,
        _ udp: [Endpoint],
        _ streams: [StreamAddress]
    ) {
        let wanted =
            pair.isWildcard ? [Endpoint(address: listener.address, port: pair.alternate.port)] : pair.corners
        listeners += wanted.filter { !NATDiscovery.covers(udp, $0) }
        let plain = streams.filter { !$0.isTLS }
        if let stream = plain.first(where: { $0.endpoint == listener }) {
            streamListeners += wanted.filter { !NATDiscovery.covers(plain.map(\.endpoint), $0) }
                .map { StreamAddress($0, isTLS: false, isImplied: stream.isImplied) }
        }
        if pair.alternate.address.isIPv4 { discovery.v4 = pair } else { discovery.v6 = pair }
    }

    /// The listener's own address, or for a wildcard the first one that a client of the second address could reach too.
    private static func primaryAddress(
        _ listener: Endpoint,
        besides alternate: IPAddress,
        _ interfaces: [InterfaceAddress]
    ) -> IPAddress? {
        guard listener.isWildcard else { return listener.address }
        return interfaces.map(\.address).first {
            $0.isIPv4 == alternate.isIPv4 && $0 != alternate && $0.isLoopback == alternate.isLoopback && !$0.isLinkLocal
        }
    }
}

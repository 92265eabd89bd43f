import Lab
import STUN
import Testing
import Traversal
import TurnpikeClient

@Suite struct NATMonitorTests {
    final class Watcher {
        private(set) var monitor: NATMonitor?
        var findings: [NATFindings] = []
        var moves: [[LocalAddress]] = []

        init(_ network: LabNetwork, _ servers: [NATServer]) {
            monitor = NATMonitor(lifetimes: .none, network: network) { [unowned self] event in
                switch event {
                case .changed(let found): findings.append(found)
                case .moved(let addresses): moves.append(addresses)
                }
            }
            monitor?.use(servers)
        }

        var last: NATFindings? { findings.last }
    }

    @Test(arguments: [
        (NATBehavior.fullCone, NATName.fullCone), (.restricted, .restricted), (.portRestricted, .portRestricted),
        (.symmetric, .symmetric),
    ])
    func aNATIsNamed(behavior: NATBehavior, name: NATName) throws {
        let (lab, network) = try world(behavior)
        let watcher = Watcher(network, [NATServer(host: "stun.example.org", port: 3_478)])
        try #expect(lab.run(while: { watcher.last?.isComplete != true }, atMostSeconds: 3))
        #expect(watcher.last?.primary?.name.value == name)
        #expect(watcher.last?.ipv6 == nil)
        try lab.run(seconds: 1)
        #expect(network.openPorts == 0)
    }

    @Test func bothFamiliesAreAsked() throws {
        let (lab, network) = try world(.portRestricted, v6: true)
        let watcher = Watcher(network, [NATServer(host: "stun.example.org", port: 3_478)])
        try #expect(lab.run(while: { watcher.last?.isComplete != true }, atMostSeconds: 3))
        #expect(watcher.last?.ipv4?.name.value == .portRestricted)
        #expect(watcher.last?.ipv6?.name.value == .open)
    }

    @Test func anIPv6AddressOfALinkAloneIsNoIPv6() throws {
        let (lab, network) = try world(.portRestricted)
        network.extra = [IPAddress("fe80::1")]
        network.names["stun.example.org"]?.append(IPAddress("2001:db8:9::9"))
        let watcher = Watcher(network, [NATServer(host: "stun.example.org", port: 3_478)])
        try #expect(lab.run(while: { watcher.last?.isComplete != true }, atMostSeconds: 3))
        #expect(watcher.last?.ipv4?.name.value == .portRestricted && watcher.last?.ipv6 == nil)
    }

    @Test func aServerThatWasReachedOtherwiseMakesSilenceABlock() throws {
        let (lab, network) = try world(nil, firewall: .noUDP)
        let watcher = Watcher(network, [NATServer(host: "stun.example.org", port: 3_478)])
        try #expect(lab.run(while: { watcher.last?.isComplete != true }, atMostSeconds: 5))
        #expect(watcher.last?.primary?.name.reason?.contains("UDP may be blocked") == true)
        let server = try #require(network.names["stun.example.org"]?.first)
        watcher.monitor?.confirmRunning(Endpoint(address: server, port: 3_478))
        #expect(watcher.last?.primary?.name.value == .blocked)
    }

    @Test func aNameThatIsNotKnownIsTold() throws {
        let (lab, network) = try world(.fullCone)
        let servers = [
            NATServer(host: "nowhere.example.org", port: 3_478), NATServer(host: "stun.example.org", port: 3_478),
        ]
        let watcher = Watcher(network, servers)
        try #expect(lab.run(while: { watcher.last?.isComplete != true }, atMostSeconds: 3))
        #expect(watcher.last?.unresolved.map(\.reason) == [.unknownName])
        #expect(watcher.last?.primary?.name.value == .fullCone)
    }

    @Test func aChangeOfAddressesBeginsAnew() throws {
        let (lab, network) = try world(.portRestricted, v6: true)
        network.hidden = [.ipv6]
        let watcher = Watcher(network, [NATServer(host: "stun.example.org", port: 3_478)])
        try lab.run(seconds: 4)
        #expect(watcher.last?.isComplete == true && watcher.last?.ipv6 == nil)
        network.hidden = []
        try #expect(lab.run(while: { watcher.last?.ipv6 == nil }, atMostSeconds: 8))
        #expect(watcher.moves.count == 1)
    }

    @Test func withoutServersThereIsNothingToWaitFor() throws {
        let (_, network) = try world(.fullCone)
        let watcher = Watcher(network, [])
        #expect(watcher.last?.isComplete == true && watcher.last?.primary == nil)
    }

    private func world(
        _ behavior: NATBehavior?,
        v6: Bool = false,
        firewall: Firewall = .stateful
    ) throws -> (Internet, LabNetwork) {
        var made: LabRelay?
        let lab = Internet(seed: 4) { core in
            made = core.relay("relay", v6: v6)
            if let behavior {
                core.nat("home", behavior, firewall: firewall) { $0.host("ada", v6: v6) }
            } else {
                core.firewall("wall", firewall) { $0.host("ada", v6: v6) }
            }
        }
        let relay = try #require(made)
        let network = try LabNetwork(lab.host("ada"), seed: 4)
        network.names["stun.example.org"] = [relay.endpoint().address] + (v6 ? [relay.endpoint(.ipv6).address] : [])
        return (lab, network)
    }
}

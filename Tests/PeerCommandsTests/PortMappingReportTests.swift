import Foundation
import PeerCommands
import Testing
import TurnpikeClient

struct PortMappingReportTests {
    private static func mapping(
        _ external: String,
        publicIP: String? = "203.0.113.7",
        lifetimeSeconds: UInt32 = 7_200
    ) throws -> PortMappingInfo {
        let address = try #require(AddressText.address(external))
        var report = PortMappingReport(gateway: IPAddress(v4: 0xC0A8_0101))
        (report.pcp, report.natPMP, report.upnp) = (.available, .silent, .refused(.notAuthorized))
        report.externalAddress = address
        report.mappings = [
            PortMapping(
                port: InternalPort(.udp, 40_000),
                external: Endpoint(address: address, port: 40_001),
                by: .pcp,
                lifetimeSeconds: lifetimeSeconds
            )
        ]
        return PortMappingInfo(report, publicIP: publicIP)
    }

    private func report(_ mapping: PortMappingInfo?) -> NetworkReport {
        var report = Example.report(Example.nat(.symmetric), [Example.working])
        report.portMapping = mapping
        return report
    }

    @Test func whatIsMappedStandsInTheTextAndTheJSON() throws {
        let report = report(try Self.mapping("203.0.113.7"))
        let text = report.text(Style(isColoured: false))
        #expect(text.contains("Port mapping  PCP yes, NAT-PMP no, UPnP refused at 192.168.1.1\n"), "\(text)")
        #expect(text.contains("  mapped      203.0.113.7:40001 by PCP, for 7200 s\n"), "\(text)")
        #expect(text.contains("The router maps a port for this machine"), "\(text)")
        let json = try report.json()
        let document = try #require(
            try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
        )
        let mapping = try #require(document["portMapping"] as? [String: Any])
        #expect(mapping["mappedBy"] as? String == "PCP" && mapping["externalPort"] as? Int == 40_001)
        #expect(mapping["upnp"] as? String == "refused" && mapping["problem"] is NSNull)
    }

    @Test(arguments: [("100.64.1.2", "203.0.113.7"), ("203.0.113.9", "203.0.113.7"), ("192.168.0.4", nil)])
    func twoNATsInARowAreToldAndPromiseNothing(_ external: String, _ publicIP: String?) throws {
        let mapping = try Self.mapping(external, publicIP: publicIP)
        #expect(mapping.isBehindAnotherNAT && !mapping.isUsable)
        let text = report(mapping).text(Style(isColoured: false))
        #expect(text.contains("two NATs are in a row: the gateway's outside address is \(external)"), "\(text)")
        #expect(text.contains("This NAT gives each destination another port"), "\(text)")
    }

    @Test func aMappingWithoutAnEndIsSaidToBeOne() throws {
        let text = report(try Self.mapping("203.0.113.7", lifetimeSeconds: 0)).text(Style(isColoured: false))
        #expect(text.contains("by PCP, until it is taken back"), "\(text)")
    }

    @Test func aGatewayThatIsSilentIsToldWithTheMend() {
        var silent = PortMappingReport(gateway: IPAddress(v4: 0xC0A8_0101))
        (silent.pcp, silent.natPMP, silent.upnp) = (.silent, .silent, .silent)
        let info = PortMappingInfo(silent, publicIP: nil)
        #expect(info.problem == "the gateway maps no ports; switch UPnP or NAT-PMP on in the router's settings")
        #expect(!report(nil).text(Style(isColoured: false)).contains("Port mapping"))
    }
}

import STUN
import TestSupport
import Testing

@testable import Traversal

struct UPnPTests {
    @Test(arguments: UPnPService.types, [false, true])
    func aPortIsMappedByEveryServiceThatThereIs(_ type: String, _ isChunked: Bool) throws {
        var world = try MappingWorld(speaking: [.upnp])
        world.device?.serviceType = type
        world.device?.isChunked = isChunked
        world.map()
        world.run(seconds: 0.5)
        #expect(world.mapping?.by == .upnp)
        #expect(world.mapping?.external == Endpoint(address: MappingWorld.outside, port: 40_000))
        #expect(
            world.device?.leases == [
                "40000 UDP": UPnPDevice.Lease(client: "192.168.1.2", internalPort: "40000", seconds: "3600")
            ]
        )
        #expect(world.exchanges == ["describe", "GetExternalIPAddress", "AddPortMapping"])
    }

    @Test(arguments: ["ctl/x", "http://192.168.1.1:5000/ctl/IPConn", "/ctl?a=1&amp;b=2"])
    func theControlURLMayBeOfAnyForm(_ url: String) throws {
        let location = try #require(HTTPLocation("http://192.168.1.1:5000/igd/desc.xml"))
        let type = UPnPService.types[0]
        let text = "<service><serviceType>\(type)</serviceType><controlURL>\(url)</controlURL></service>"
        let path = ["ctl/x": "/igd/ctl/x", "/ctl?a=1&amp;b=2": "/ctl?a=1&b=2"][url] ?? "/ctl/IPConn"
        let service = try #require(UPnPService.all(in: Array(text.utf8), at: location).first)
        #expect(service.control.path == path && service.control.endpoint == Endpoint("192.168.1.1", 5_000))
    }

    @Test(arguments: [
        "http://192.168.1.9:5000/x", "http://evil.example/x", "https://192.168.1.1/x", "/a b", "/a\r\nX: y",
        "ftp://192.168.1.1/", "",
    ])
    func nothingLeadsToAnotherHost(_ url: String) throws {
        let location = try #require(HTTPLocation("http://192.168.1.1:5000/desc.xml"))
        #expect(location.resolving(url) == nil)
    }

    @Test func whoAnswersForAnotherHostIsNotSpokenWith() throws {
        var world = try MappingWorld(speaking: [.upnp])
        world.device?.location = "http://192.168.1.99:5000/igd/desc.xml"
        world.map()
        world.run(seconds: 5)
        #expect(world.exchanges.isEmpty && world.mapping == nil)
    }

    @Test func aDeviceThatKnowsOnlyPermanentLeasesHasOneThatIsTakenBack() throws {
        var world = try MappingWorld(speaking: [.upnp])
        world.device?.refusal = { $0 == "0" ? nil : 725 }
        world.map()
        world.run(seconds: 1)
        #expect(world.mapping?.lifetimeSeconds == 0)
        #expect(world.device?.leases["40000 UDP"]?.seconds == "0")
        world.run(seconds: 10_000)
        #expect(world.mapping != nil && world.lost.isEmpty)
        world.release()
        world.run(seconds: 0.1)
        #expect(world.device?.leases.isEmpty == true)
    }

    @Test func aPortThatIsTakenIsMappedToAnother() throws {
        var world = try MappingWorld(speaking: [.upnp])
        world.device?.taken = ["40000"]
        world.map()
        world.run(seconds: 1)
        let mapping = try #require(world.mapping)
        #expect(mapping.external.port != 40_000)
        #expect(world.device?.leases.keys.first == "\(mapping.external.port) UDP")
    }

    @Test func aDeviceWhoseActionsFailIsGivenUpByName() throws {
        var world = try MappingWorld(speaking: [.upnp])
        world.device?.refusal = { _ in 501 }
        world.map()
        world.run(seconds: 60)
        #expect(world.mapping == nil && world.mapper.report.upnp == .refused(.other(501)))
        // A lease, a permanent one, and four other ports.
        #expect(world.exchanges.count { $0 == "AddPortMapping" } == 6)
        world.device?.refusal = { _ in 606 }
        world.run(seconds: 600)
        #expect(world.mapper.report.upnp == .refused(.notAuthorized))
    }

    @Test func aLeaseIsAskedForAnewAndComesBackAfterTheDeviceHasForgottenIt() throws {
        var world = try MappingWorld(speaking: [.upnp])
        world.map()
        world.run(seconds: 10)
        world.reboot(announcing: false)
        world.run(seconds: 600)
        #expect(world.device?.leases.count == 1)
        // It is there at another port, with a lost path to tell of it.
        world.reboot(announcing: false)
        world.device?.port = 5_001
        world.device?.location = "http://192.168.1.1:5001/igd/desc.xml"
        world.verify()
        world.run(seconds: 15)
        #expect(world.device?.leases.count == 1 && world.lost.isEmpty)
    }

    @Test func anotherOutsideAddressIsAnotherMapping() throws {
        var world = try MappingWorld(speaking: [.upnp])
        world.map()
        world.run(seconds: 10)
        world.device?.externalAddress = "198.51.100.8"
        world.run(seconds: 601)
        #expect(world.granted.map { AddressText.text($0.external) } == ["198.51.100.7:40000", "198.51.100.8:40000"])
    }

    @Test func aGatewayThatMapsByPCPLateTakesOverFromUPnP() throws {
        var world = try MappingWorld(speaking: [.upnp])
        world.map()
        world.run(seconds: 1)
        #expect(world.mapping?.by == .upnp)
        // The port by UPnP is one of others to it.
        world.gateway.taken = [40_000]
        world.gateway.speaksPCP = true
        world.run(seconds: 10)
        #expect(world.mapping?.by == .pcp && world.device?.leases.isEmpty == true && world.lost.isEmpty)
    }

    @Test func aMappingThatTwoProtocolsHaveAskedForIsNotTakenFromEither() throws {
        var world = try MappingWorld(speaking: [.upnp])
        world.map()
        world.run(seconds: 1)
        world.gateway.speaksPCP = true
        world.run(seconds: 100)
        #expect(world.mapping?.by == .pcp && world.mapping?.external.port == 40_000)
        #expect(world.device?.leases.count == 1 && !world.exchanges.contains("DeletePortMapping"))
        world.release()
        world.run(seconds: 0.1)
        #expect(world.isReleased && world.device?.leases.isEmpty == true && world.gateway.mappings.isEmpty)
    }

    @Test func aDeviceThatSaysNothingHoldsUpNobody() throws {
        var world = try MappingWorld(speaking: [.upnp])
        world.device?.isMute = true
        world.map()
        world.run(seconds: 0.5)
        world.release()
        #expect(world.isReleased)
        var patient = try MappingWorld(speaking: [.upnp])
        patient.device?.isMute = true
        patient.map()
        patient.run(seconds: 3_600)
        // A search every ten minutes, and one look at the device in each.
        #expect(patient.exchanges.count <= 8)
    }

    @Test func answersAreReadPieceByPieceAndNoFurtherThanTheirBound() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloTOO MUCH"
        var slow = HTTPAnswer()
        for byte in text.utf8 { withUnsafeBytes(of: byte) { slow.take($0) } }
        #expect(slow.state == .complete(status: 200, body: Array("hello".utf8)))
        var endless = HTTPAnswer()
        Array("HTTP/1.1 200 OK\r\n\r\n".utf8).withUnsafeBytes { endless.take($0) }
        let more = [UInt8](repeating: 60, count: 10_000)
        for _ in 0..<20 { more.withUnsafeBytes { endless.take($0) } }
        #expect(endless.state == .bad)
        var headless = HTTPAnswer()
        for _ in 0..<2 { more.withUnsafeBytes { headless.take($0) } }
        #expect(headless.state == .bad)
        var huge = HTTPAnswer()
        Array("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".utf8).withUnsafeBytes { huge.take($0) }
        #expect(huge.state == .bad)
    }
}

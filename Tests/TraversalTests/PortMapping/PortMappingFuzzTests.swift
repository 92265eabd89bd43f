import STUN
import TestSupport
import Testing

@testable import Traversal

/// What a hostile device of the LAN may send: 10^5 packets and answers, each of what a gateway says with something
/// wrong about it.
struct PortMappingFuzzTests {
    @Test func datagramsOfAnyKindDoNoHarm() throws {
        var generator = SeededGenerator(seed: 6_887)
        var packets: [[UInt8]] = []
        for speaking in [[PortMappingProtocol.pcp], [.natPMP], [.upnp]] {
            var world = try MappingWorld(speaking: Set(speaking))
            world.map()
            world.run(seconds: 2)
            for entry in world.sent {
                packets.append(entry.bytes)
                if let answer = world.gateway.answer(entry.bytes, from: MappingWorld.client.v4, world.now) {
                    packets.append(answer)
                }
            }
            packets += world.gateway.announcements(world.now)
            if let device = world.device { packets.append(try #require(device.search(UPnPMessage.search()))) }
        }
        let sources = [MappingWorld.server, Endpoint(address: MappingWorld.gateway, port: 1_900)]
        for round in 0..<20 {
            var world = try MappingWorld(speaking: [[.pcp], [.natPMP], [.upnp], []][round % 4])
            world.map()
            for _ in 0..<3_000 {
                let packet = packets[Int.random(in: 0..<packets.count, using: &generator)]
                let source = sources[Int.random(in: 0..<2, using: &generator)]
                world.inject(
                    mutated(packet, &generator),
                    from: source,
                    isAnnouncement: Bool.random(using: &generator)
                )
                if Int.random(in: 0..<8, using: &generator) == 0 { world.run(seconds: 0.05) }
            }
            #expect(world.mapper.report.mappings.count <= 1)
            world.release()
            world.run(seconds: 1)
            #expect(world.isReleased)
        }
    }

    @Test func answersOfDevicesOfAnyKindDoNoHarm() throws {
        var generator = SeededGenerator(seed: 1_900)
        let device = UPnPDevice()
        var chunked = UPnPDevice()
        chunked.isChunked = true
        let service = UPnPService(
            type: UPnPService.types[1],
            control: try #require(HTTPLocation("http://192.168.1.1:5000/ctl/IPConn"))
        )
        let requests = [
            UPnPMessage.get(try #require(HTTPLocation(device.location))),
            UPnPMessage.action("GetExternalIPAddress", [], at: service),
            UPnPMessage.action("DeletePortMapping", [], at: service),
        ]
        var answers: [[UInt8]] = []
        for var device in [device, chunked] {
            answers += requests.compactMap { device.answer($0, at: 5_000).1 }
        }
        for _ in 0..<40_000 {
            let bytes = mutated(answers[Int.random(in: 0..<answers.count, using: &generator)], &generator)
            var answer = HTTPAnswer()
            let cut = Int.random(in: 0...bytes.count, using: &generator)
            bytes[..<cut].withUnsafeBytes { answer.take($0) }
            bytes[cut...].withUnsafeBytes { answer.take($0) }
            answer.close()
            #expect(answer.state != .incomplete)
            guard case .complete(_, let body) = answer.state else { continue }
            for service in UPnPService.all(in: body, at: service.control) {
                #expect(service.control.endpoint.address == MappingWorld.gateway)
            }
            _ = Markup.value("errorCode", in: body)
        }
    }
}

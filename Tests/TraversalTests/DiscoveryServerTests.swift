import STUN
import TestSupport
import Testing
import Traversal

/// NAT discovery with servers that are older than RFC 5780, set up by half, or not honest: the right name, or none.
@Suite struct DiscoveryServerTests {
    typealias World = DiscoveryWorld
    typealias Kind = BehaviourDiscoveryTests.Kind

    private static let otherAddress: [UInt8] = [0x80, 0x2C]
    private static let responseOrigin: [UInt8] = [0x80, 0x2B]
    private static let xorMappedAddress: [UInt8] = [0x00, 0x20]
    /// RFC 3489 section 11.2.
    private static let changedAddress: [UInt8] = [0x00, 0x05]
    private static let sourceAddress: [UInt8] = [0x00, 0x04]

    private static func value(_ endpoint: Endpoint) -> [UInt8] {
        let address = endpoint.address
        let bytes =
            address.isIPv4
            ? withUnsafeBytes(of: address.v4.bigEndian, Array.init)
            : withUnsafeBytes(of: address.high.bigEndian, Array.init)
                + withUnsafeBytes(of: address.low.bigEndian, Array.init)
        return [0, address.isIPv4 ? 1 : 2] + withUnsafeBytes(of: endpoint.port.bigEndian, Array.init) + bytes
    }

    /// The message with attributes of one type given another type and, where there is one, another value.
    private static func changing(_ message: [UInt8], _ type: [UInt8], to other: [UInt8], value: [UInt8]? = nil)
        -> [UInt8]
    {
        var changed = Array(message.prefix(20))
        var rest = message.dropFirst(20)
        while rest.count >= 4 {
            let length = Int(rest[rest.startIndex + 2]) << 8 | Int(rest[rest.startIndex + 3])
            let attribute = rest.prefix(4 + (length + 3) / 4 * 4)
            rest = rest.dropFirst(attribute.count)
            guard attribute.starts(with: type) else {
                changed += attribute
                continue
            }
            let value = value ?? Array(attribute.dropFirst(4))
            changed += other + [UInt8(value.count >> 8), UInt8(value.count & 0xFF)] + value
        }
        let length = changed.count - 20
        (changed[2], changed[3]) = (UInt8(length >> 8), UInt8(length & 0xFF))
        return changed
    }

    /// As a server of RFC 3489 writes it: MAPPED-ADDRESS, SOURCE-ADDRESS, CHANGED-ADDRESS.
    private static func old(_ message: [UInt8]) -> [UInt8] {
        var message = changing(message, otherAddress, to: changedAddress)
        message = changing(message, responseOrigin, to: sourceAddress)
        // What such servers call XOR-MAPPED-ADDRESS, if they have it.
        return changing(message, xorMappedAddress, to: [0x80, 0x20])
    }

    @Test(arguments: Kind.all)
    func aServerOfRFC3489ShowsAllThatItsSuccessorsDo(kind: Kind) throws {
        let servers = try World.Servers()
        for seed in 0..<20 as Range<UInt64> {
            let filtering = kind.filtering ?? NATModel.Filtering.allCases[Int(seed) % 3]
            let world = try World(servers, NATModel(kind.mapping, filtering, .random, seed: seed), seed: seed)
            world.onAnswer = Self.old
            world.run()
            #expect(world.report?.name == .determined(kind.name), "seed \(seed), \(filtering)")
        }
    }

    @Test(arguments: [
        World.first, Endpoint("203.0.113.10", 3_479), Endpoint("203.0.113.11", 3_478), Endpoint("203.0.113.11", 0),
        Endpoint("192.168.1.1", 3_479), Endpoint("10.0.0.1", 3_479), Endpoint("127.0.0.1", 3_479),
        Endpoint("0.0.0.0", 3_479), Endpoint("255.255.255.255", 3_479), Endpoint("224.0.0.1", 3_479),
        World.second6,
    ])
    func aSecondAddressThatCannotBeOneIsNotAsked(second: Endpoint) throws {
        let servers = try World.Servers()
        let nat = NATModel(.endpointIndependent, .addressDependent, seed: 21)
        for type in [Self.otherAddress, Self.changedAddress] {
            let world = try World(servers, nat, seed: 21)
            world.onAnswer = { Self.changing($0, Self.otherAddress, to: type, value: Self.value(second)) }
            world.run()
            #expect(world.report?.filtering.reason == "no server has a second address to answer from")
            #expect(world.report?.name.reason == "it takes servers on two addresses to tell")
        }
    }

    @Test func anAddressByItsOldNameIsNotAskedWhereThereIsOneByTheNew() throws {
        let nat = NATModel(.endpointIndependent, .addressDependent, seed: 22)
        let world = try World(World.Servers(), nat, seed: 22)
        world.onAnswer = { bytes in
            let hidden = Self.value(Endpoint("10.0.0.1", 3_479))
            let bytes = Self.changing(
                bytes,
                Self.responseOrigin,
                to: Self.changedAddress,
                value: Self.value(World.second)
            )
            return Self.changing(bytes, Self.otherAddress, to: Self.otherAddress, value: hidden)
        }
        world.run()
        #expect(world.report?.filtering.reason == "no server has a second address to answer from")
    }

    @Test(arguments: [Endpoint("203.0.113.77", 3_479), Endpoint("192.0.2.20", 3_479)])
    func aSecondAddressOfNobodyOrOfAnotherServerShowsNoFilter(second: Endpoint) throws {
        let servers = try World.Servers()
        for filtering in NATModel.Filtering.allCases {
            let world = try World(servers, NATModel(.endpointIndependent, filtering, seed: 23), seed: 23)
            world.silent = [IPAddress("203.0.113.77")]
            world.onAnswer = {
                Self.changing($0, Self.otherAddress, to: Self.otherAddress, value: Self.value(second))
            }
            // The changed answers of this one leave from the address that it has in truth.
            world.run()
            let name = world.report?.name.value
            #expect(name == nil || name == .fullCone && filtering == .none, "\(filtering), \(second)")
        }
    }

    @Test(arguments: Kind.all)
    func aServerThatAnswersFromWhereItWasAskedNamesNoFilter(kind: Kind) throws {
        let filtering = kind.filtering ?? .addressAndPortDependent
        let world = try World(World.Servers(), NATModel(kind.mapping, filtering, seed: 24), seed: 24)
        world.onChange = { _, server in server }
        world.run()
        expectNoFilter(world, kind)
        #expect(world.report?.filtering.reason == "the server answers from the address it was asked at")
    }

    @Test(arguments: Kind.all)
    func aServerWhoseAnswersFromElsewhereAreLostNamesNoFilter(kind: Kind) throws {
        let servers = try World.Servers()
        for seed in 0..<10 as Range<UInt64> {
            let filtering = kind.filtering ?? .addressDependent
            let world = try World(servers, NATModel(kind.mapping, filtering, seed: seed), seed: seed)
            world.onChange = { _, _ in nil }
            world.run()
            expectNoFilter(world, kind)
            let concluded = try #require(world.concludedAt)
            #expect(concluded - (try #require(world.lastServerAnswerAt)) <= 1_500 * milliseconds)
        }
    }

    @Test(arguments: Kind.all)
    func aServerThatCannotChangeItsPortAloneIsNotTakenForAPortsFilter(kind: Kind) throws {
        let filtering = kind.filtering ?? .addressDependent
        let world = try World(World.Servers(), NATModel(kind.mapping, filtering, seed: 25), seed: 25)
        world.onChange = { origin, server in origin.address == server.address ? nil : origin }
        world.run()
        let name = world.report?.name.value
        switch kind.name {
        case .restricted, .portRestricted: #expect(name == nil)
        default: #expect(name == kind.name)
        }
    }

    /// The mapping needs no answers from elsewhere, so Open and Symmetric are named all the same.
    private func expectNoFilter(_ world: World, _ kind: Kind) {
        switch kind.name {
        case .open, .symmetric: #expect(world.report?.name == .determined(kind.name))
        default:
            #expect(world.report?.mapping == .determined(.endpointIndependent))
            #expect(world.report?.name.value == nil)
            #expect(world.report?.filtering.value == nil)
        }
    }
}

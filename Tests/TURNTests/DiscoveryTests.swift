import STUN
import TURN
import Testing

/// NAT behaviour discovery (RFC 5780): whence an answer comes, where it goes, what it says, and how long it is.
@Suite struct DiscoveryTests {
    private static let first = Endpoint("203.0.113.5", 3_478)
    private static let second = Endpoint("203.0.113.6", 3_479)
    private static let first6 = Endpoint("2606:4700::5", 3_478)
    private static let second6 = Endpoint("2606:4700::6", 3_479)
    private static let v6 = Endpoint("2606:4700::9", 40_000)

    /// A server with a second address for each family.
    private func pairedLab(
        isWildcard: Bool = false,
        tcp: [Endpoint] = [],
        _ more: (inout Configuration) -> Void = { _ in }
    ) throws -> Lab {
        try Lab { configuration in
            let v4 = NATDiscovery.Pair(primary: Self.first, alternate: Self.second, isWildcard: isWildcard)
            let v6 = NATDiscovery.Pair(primary: Self.first6, alternate: Self.second6, isWildcard: isWildcard)
            (configuration.discovery.v4, configuration.discovery.v6) = (v4, v6)
            let wildcards = [3_478, 3_479].flatMap { [Endpoint("0.0.0.0", $0), Endpoint("::", $0)] }
            let udp = isWildcard ? wildcards : [Self.first, Self.first6] + v4.corners + v6.corners
            configuration.policy.listeners.formUnion(isWildcard ? [] : udp)
            configuration.discovery.attach(udp: udp, tcp: tcp)
            more(&configuration)
        }
    }

    /// A server with one address, and these sockets.
    private func singleLab(_ sockets: [Endpoint]) throws -> Lab {
        try Lab { $0.discovery.attach(udp: sockets, tcp: []) }
    }

    private func ask(
        _ client: Client,
        change flags: UInt32? = nil,
        responsePort: UInt16? = nil,
        padding: Int? = nil,
        fingerprint: Bool = false
    ) -> Lab.Outcome {
        client.send(request(client, flags, responsePort, padding, fingerprint))
    }

    private func request(
        _ client: Client,
        _ flags: UInt32?,
        _ responsePort: UInt16? = nil,
        _ padding: Int? = nil,
        _ fingerprint: Bool = false
    ) -> [UInt8] {
        client.request(.binding, signing: nil, fingerprint: fingerprint) { builder in
            if let flags { builder.append(.changeRequest, flags) }
            if let responsePort { builder.append(.responsePort, UInt32(responsePort) << 16) }
            if let padding { builder.append(.padding, Array(repeating: 0x50, count: padding)) }
        }
    }

    // MARK: Two addresses

    @Test(arguments: [false, true])
    func everyCombinationOfFlagsAndPlacesIsThatOfTheTable(isWildcard: Bool) throws {
        let lab = try pairedLab(isWildcard: isWildcard)
        let families = [
            (Self.first, Self.second, Endpoint("198.51.100.7", 40_000)), (Self.first6, Self.second6, Self.v6),
        ]
        for (first, second, source) in families {
            let addresses = [(first.address, second.address), (second.address, first.address)]
            for (da, ca) in addresses {
                for (dp, cp) in [(first.port, second.port), (second.port, first.port)] {
                    let server = Endpoint(address: da, port: dp)
                    let client = lab.client(at: source, server: server)
                    for (flags, origin) in [
                        (nil, server), (0, server), (4, Endpoint(address: ca, port: dp)),
                        (2, Endpoint(address: da, port: cp)), (6, Endpoint(address: ca, port: cp)),
                    ] as [(UInt32?, Endpoint)] {
                        let outcome = ask(client, change: flags)
                        let answer = try #require(outcome.answer ?? outcome.diverted?.answer)
                        #expect((outcome.diverted?.origin ?? server) == origin)
                        #expect((outcome.diverted?.destination ?? source) == source)
                        #expect(
                            answer.types == [.xorMappedAddress, .mappedAddress, .responseOrigin, .otherAddress]
                        )
                        #expect(answer.endpoints(.xorMappedAddress) == [source])
                        #expect(answer.plain(.mappedAddress) == source)
                        #expect(answer.plain(.responseOrigin) == origin)
                        // Whatever the flags.
                        #expect(answer.plain(.otherAddress) == Endpoint(address: ca, port: cp))
                    }
                }
            }
        }
    }

    @Test func behindAWildcardEveryAddressIsAFirstOne() throws {
        let lab = try pairedLab(isWildcard: true)
        let server = Endpoint("203.0.113.200", 3_479)
        let diverted = try #require(ask(lab.client(server: server), change: 4).diverted)
        #expect(diverted.origin == Endpoint("203.0.113.6", 3_479))
        #expect(diverted.answer.plain(.otherAddress) == Endpoint("203.0.113.6", 3_478))
        // A link-local one is not: nothing else of this host could answer there.
        let linkLocal = lab.client(at: Endpoint("fe80::7", 4_000), server: Endpoint("fe80::5", 3_478))
        #expect(ask(linkLocal, change: 6).answer?.error == 420)
        #expect(ask(linkLocal).answer?.types == [.xorMappedAddress])
    }

    @Test func aListenerBesideThePairKnowsNoOther() throws {
        let lab = try pairedLab()
        for server in [Endpoint("203.0.113.5", 5_349), Endpoint("203.0.113.200", 3_478)] {
            let client = lab.client(server: server)
            #expect(ask(client).answer?.types == [.xorMappedAddress])
            #expect(ask(client, change: 4).answer?.error == 420)
        }
    }

    @Test func aPairThatLacksASocketIsNotSpokenOf() throws {
        let pair = NATDiscovery.Pair(primary: Self.first, alternate: Self.second, isWildcard: false)
        for missing in pair.corners {
            let lab = try Lab { configuration in
                configuration.discovery.v4 = pair
                configuration.discovery.attach(udp: ([Self.first] + pair.corners).filter { $0 != missing }, tcp: [])
            }
            #expect(ask(lab.client()).answer?.types == [.xorMappedAddress])
            #expect(ask(lab.client(), change: 6).answer?.error == 420)
        }
    }

    @Test func behindOneToOneNATOutsideAddressesAreNamed() throws {
        let lab = try pairedLab { configuration in
            configuration.outsideAddresses = [
                Self.first.address: IPAddress("192.0.2.5"), Self.second.address: IPAddress("192.0.2.6"),
            ]
        }
        let diverted = try #require(ask(lab.client(), change: 4).diverted)
        #expect(diverted.origin == Endpoint("203.0.113.6", 3_478))
        #expect(diverted.answer.plain(.responseOrigin) == Endpoint("192.0.2.6", 3_478))
        #expect(diverted.answer.plain(.otherAddress) == Endpoint("192.0.2.6", 3_479))
    }

    @Test func aConnectionIsToldOfTheSecondAddressAndCannotBeAnsweredFromIt() throws {
        let pair = NATDiscovery.Pair(primary: Self.first, alternate: Self.second, isWildcard: false)
        let lab = try pairedLab(tcp: [Self.first] + pair.corners)
        let client = lab.client()
        client.tuple.transport = .tcp
        #expect(ask(client).answer?.plain(.otherAddress) == Self.second)
        #expect(ask(client).answer?.plain(.responseOrigin) == Self.first)
        for flags in [0, 2, 4, 6] as [UInt32] { #expect(ask(client, change: flags).answer?.error == 420) }
        #expect(ask(client, responsePort: 4_000).answer?.error == 420)
        // TLS has a port of its own, with no second one beside it.
        client.tuple.transport = .tls
        #expect(ask(client).answer?.types == [.xorMappedAddress])
        // And where nothing listens for TCP at the second address, nobody is sent there.
        let without = try pairedLab().client()
        without.tuple.transport = .tcp
        #expect(ask(without).answer?.types == [.xorMappedAddress])
    }

    // MARK: One address

    @Test func am01_withOneAddressAPlainAnswerHoldsTheAddressAndNothingElse() throws {
        let lab = try singleLab([Self.first, Endpoint("203.0.113.5", 5_349)])
        #expect(ask(lab.client()).answer?.bytes.count == 32)
        let padded = try #require(ask(lab.client(), padding: 40).answer)
        #expect(padded.types == [.xorMappedAddress, .mappedAddress, .responseOrigin, .padding])
        #expect(padded.plain(.responseOrigin) == Self.first)
    }

    @Test func withOneAddressAnotherPortAnswersAndAnotherAddressIs420() throws {
        for other in [Endpoint("203.0.113.5", 5_349), Endpoint("0.0.0.0", 5_349)] {
            let lab = try singleLab([Self.first, Endpoint("203.0.113.9", 9), Endpoint("::", 10), other])
            let diverted = try #require(ask(lab.client(), change: 2).diverted)
            #expect(diverted.origin == Endpoint("203.0.113.5", 5_349))
            #expect(diverted.answer.types == [.xorMappedAddress, .mappedAddress, .responseOrigin])
            #expect(ask(lab.client(), change: 0).answer?.isSuccess == true)
            for flags in [4, 6] as [UInt32] {
                let answer = try #require(ask(lab.client(), change: flags).answer)
                #expect(answer.error == 420 && answer.value(.unknownAttributes) == [0, 3])
            }
        }
        #expect(ask(try singleLab([Self.first]).client(), change: 2).answer?.error == 420)
        // A port where nothing is taken in the clear will do, but makes no second address.
        let pair = NATDiscovery.Pair(primary: Self.first, alternate: Self.second, isWildcard: false)
        let lab = try Lab { configuration in
            configuration.discovery.v4 = pair
            configuration.discovery.attach(udp: [Self.first], tcp: [], dtls: pair.corners)
        }
        #expect(ask(lab.client(), change: 2).diverted?.origin == Endpoint("203.0.113.5", 3_479))
        #expect(ask(lab.client(), change: 4).answer?.error == 420)
    }

    @Test func switchedOffNoneOfItIsKnown() throws {
        let lab = try pairedLab { $0.discovery.isEnabled = false }
        let client = lab.client()
        #expect(ask(client).answer?.types == [.xorMappedAddress])
        for (outcome, type) in [
            (ask(client, change: 6), 0x03), (ask(client, change: 0), 0x03), (ask(client, padding: 100), 0x26),
            (ask(client, responsePort: 4_000), 0x27),
        ] as [(Lab.Outcome, UInt8)] {
            #expect(outcome.answer?.error == 420)
            #expect(outcome.answer?.value(.unknownAttributes) == [0, type])
        }
    }

    // MARK: What it must not be used for

    @Test func am08_onlyThePortOfAnAnswersDestinationCanBeChosen() throws {
        let lab = try pairedLab()
        let client = lab.client()
        let diverted = try #require(ask(client, responsePort: 50_000).diverted)
        #expect(diverted.origin == Self.first && diverted.destination == Endpoint("198.51.100.7", 50_000))
        // The mapping told is that of the request.
        #expect(diverted.answer.endpoints(.xorMappedAddress) == [client.tuple.client])
        let both = try #require(ask(client, change: 6, responsePort: 50_000).diverted)
        #expect(both.origin == Self.second && both.destination.port == 50_000)
        // The two bytes of padding may count into the length or not.
        let short = client.request(.binding, signing: nil) { $0.append(.responsePort, [0xC3, 0x50]) }
        #expect(client.send(short).diverted?.destination.port == 50_000)
        // RFC 3489's way to name an address is not known at all.
        let legacy = client.request(.binding, signing: nil) { builder in
            builder.append(AttributeType(rawValue: 0x0002), plain: Endpoint("192.0.2.1", 9))
        }
        #expect(client.send(legacy).answer?.error == 420)
    }

    @Test func am11_am13_noAnswerIsSentToAServiceOrToAListenerOfOurs() throws {
        let lab = try pairedLab { $0.policy.listeners.insert(Endpoint("198.51.100.7", 3_478)) }
        let client = lab.client()
        let ports = [0, 7, 13, 17, 19, 37, 53, 69, 123, 137, 161, 389, 1900, 11211, 3_478] as [UInt16]
        for port in ports { #expect(ask(client, responsePort: port).answer?.error == 403, "\(port)") }
        // A request that came from the second address could have the first one answer its twin.
        let own = lab.client(at: Endpoint("203.0.113.6", 9_999))
        for port in [3_478, 3_479] as [UInt16] { #expect(ask(own, responsePort: port).answer?.error == 403) }
    }

    @Test func am07_paddingNeverMakesAnAnswerLongerThanTheRequest() throws {
        let lab = try pairedLab()
        for source in [Endpoint("198.51.100.7", 40_000), Self.v6] {
            let client = lab.client(at: source, server: source.address.isIPv4 ? Self.first : Self.first6)
            let plain = try #require(ask(client).answer).bytes.count
            for length in [0, 1, 3, 4, 44, 45, 100, 101, 500, 1_472, 1_500, 9_000, 60_000] {
                for fingerprint in [false, true] {
                    let request = request(client, nil, nil, length, fingerprint)
                    let answer = try #require(client.send(request).answer)
                    let bare = plain + (fingerprint ? 8 : 0)
                    if answer.value(.padding) == nil {
                        #expect(answer.bytes.count == bare && request.count < bare + 4)
                    } else {
                        #expect(answer.bytes.count <= request.count && answer.bytes.count <= 1_500)
                        // And as long as the request where there is room, to come back in fragments as it went.
                        #expect(answer.bytes.count >= min(request.count, 1_500) - 3)
                        #expect(answer.value(.padding)?.allSatisfy { $0 == 0 } == true)
                    }
                    #expect(
                        answer.types.last
                            == (fingerprint ? .fingerprint : answer.value(.padding) == nil ? .otherAddress : .padding)
                    )
                }
            }
        }
    }

    @Test func paddingForAnotherPortIsRefused() throws {
        let client = try pairedLab().client()
        #expect(ask(client, responsePort: 50_000, padding: 100).answer?.error == 400)
    }

    @Test func attributesOfWrongLengthAre400() throws {
        let client = try pairedLab().client()
        for (type, length) in [
            (.changeRequest, 0), (.changeRequest, 3), (.changeRequest, 8), (.responsePort, 0), (.responsePort, 1),
            (.responsePort, 8),
        ] as [(AttributeType, Int)] {
            let request = client.request(.binding, signing: nil) { $0.append(type, Array(repeating: 6, count: length)) }
            #expect(client.send(request).answer?.error == 400, "\(type) \(length)")
        }
    }

    @Test func theyAreForBindingOnly() throws {
        let client = try pairedLab().client()
        for type in [.changeRequest, .padding, .responsePort] as [AttributeType] {
            #expect(client.perform(.refresh) { $0.append(type, 6 as UInt32) }?.error == 420)
        }
    }

    @Test func am14_noRequestGetsMoreThanThreeTimesItsBytes() throws {
        var bytesIn = 0
        var bytesOut = 0
        for lab in [try pairedLab(), try singleLab([Self.first, Endpoint("203.0.113.5", 5_349)])] {
            for source in [Endpoint("198.51.100.7", 40_000), Self.v6] {
                let client = lab.client(at: source, server: source.address.isIPv4 ? Self.first : Self.first6)
                let headers = source.address.isIPv4 ? 28 : 48
                for flags in [nil, 0, 2, 4, 6] as [UInt32?] {
                    for port in [nil, 0, 50_000] as [UInt16?] {
                        for padding in [nil, 0, 10, 100, 1_500] as [Int?] {
                            for fingerprint in [false, true] {
                                let request = request(client, flags, port, padding, fingerprint)
                                let outcome = client.send(request)
                                let answer = try #require(outcome.answer ?? outcome.diverted?.answer)
                                let (bytes, sent) = (request.count + headers, answer.bytes.count + headers)
                                #expect(Double(sent) <= 3.0 * Double(bytes))
                                (bytesIn, bytesOut) = (bytesIn + bytes, bytesOut + sent)
                            }
                        }
                    }
                }
            }
        }
        #expect(bytesOut < bytesIn)
    }

    @Test func am05_allOfItComesFromTheBudgetOfBinding() throws {
        let lab = try pairedLab { ($0.unauthenticatedRepliesPerSecond, $0.bindingRepliesPerSecond) = (5, 20) }
        var answers = 0
        for index in 0..<400 as Range<UInt16> {
            let client = lab.client(at: Endpoint("198.51.100.66", 2_000 + index))
            let outcomes = [
                ask(client, change: 6), ask(client, responsePort: 50_000), ask(client, padding: 900), ask(client),
            ]
            answers += outcomes.count { !$0.isSilence }
        }
        #expect(answers == 20)
        // Errors have their own.
        let refused = (0..<100 as Range<UInt16>).count { index in
            !ask(lab.client(at: Endpoint("198.51.100.66", 2_000 + index)), responsePort: 53).isSilence
        }
        #expect(refused == 5)
    }
}

extension Answer {
    /// An address that is not XORed.
    fileprivate func plain(_ type: AttributeType) -> Endpoint? {
        value(type).flatMap { value in value.withUnsafeBytes { AddressAttribute.decode($0) } }
    }
}

import STUN
import TURN
import Testing

/// Section PA: every row's first, last and middle addresses and neighbours, by every path, as the oracle has it.
@Suite struct PolicyTests {
    /// Addresses the table names one by one, and neighbours and public ones (PA-42).
    private static let named = [
        "0.0.0.0", "100.100.100.200", "127.0.0.1", "127.0.0.2", "127.255.255.254", "169.254.169.254", "169.254.170.2",
        "169.254.169.253", "172.17.0.1", "192.0.0.8", "192.0.0.9", "192.0.0.10", "192.0.0.170", "192.0.0.171",
        "192.0.0.192",
        "255.255.255.255", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254", "::", "::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:8.8.8.8", "::127.0.0.1", "::10.0.0.1",
        "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::808:808",
        "64:ff9b::10.0.0.1", "64:ff9b::168.63.129.16", "2001:1::1", "2002:7f00:1::", "2002:a00:1::", "fe80::1",
        "2606:4700::5efe:8.8.8.8", "2606:4700::200:5efe:127.0.0.1", "2606:4700::200:5efe:8.8.8.8",
        "2606:4700::100:5efe:8.8.8.8",
        "fe80::5efe:10.0.0.1", "8.8.8.8", "1.1.1.1", "2606:4700::1111", "192.0.1.1", "172.32.0.1", "100.128.0.0",
        "11.0.0.0",
        "223.255.255.255", "2003::1",
    ]

    private static let addresses: [String] = {
        let rows = PolicyOracle.rows.flatMap { $0.prefixes.flatMap(PolicyOracle.samples) }
        var seen: Set<String> = []
        return (named.map(PolicyOracle.bits) + rows).filter { seen.insert($0).inserted }
    }()

    private func lab(_ configure: (inout Configuration) -> Void = { _ in }) throws -> Lab {
        let relays = FakeRelays()
        relays.addresses[.ipv4] = FakeRelays.Address(inside: IPAddress("185.0.0.5"), advertised: IPAddress("185.0.0.5"))
        relays.addresses[.ipv6] = FakeRelays.Address(inside: IPAddress("2600:1::5"), advertised: IPAddress("2600:1::5"))
        return try Lab(relays: relays) {
            $0.permissionsPerAllocation = 0
            configure(&$0)
        }
    }

    /// An IPv6 spelling stays IPv6, though the C library and the engine both know of mapped ones.
    private func peer(_ bits: String, port: UInt16 = 4_000) -> Endpoint { Endpoint(PolicyOracle.text(bits), port) }

    /// Runs the address by CreatePermission, ChannelBind, Send and the inbound way; both clients have both families.
    private func check(_ bits: String, _ lab: Lab, _ client: Client, _ other: Client, channel: UInt16, isAllowed: Bool)
        throws
    {
        let peer = peer(bits)
        let name = PolicyOracle.text(bits)
        #expect((client.relay(peer.family)?.local.family) == peer.family)
        let relay = try #require(client.relay(peer.family))
        let second = try #require(other.relay(peer.family))
        let bound = client.bind(channel, peer)
        #expect(bound?.error == (isAllowed ? nil : 403), "ChannelBind \(name)")
        #expect((client.indicate(peer).forward != nil) == isAllowed, "Send \(name) after ChannelBind")
        #expect((client.channelData(channel).forward != nil) == isAllowed, "ChannelData \(name)")
        #expect((lab.receive(from: peer, at: relay.local)?.channel == channel) == isAllowed, "inbound \(name)")
        #expect(other.permit([peer])?.error == (isAllowed ? nil : 403), "CreatePermission \(name)")
        #expect((other.indicate(peer).forward != nil) == isAllowed, "Send \(name)")
        #expect((lab.receive(from: peer, at: second.local)?.peer == peer) == isAllowed, "inbound \(name)")
    }

    private func checkAll(_ lab: Lab, allowing: [String] = []) throws {
        let clients = [1_024, 1_025].map { lab.client(at: Endpoint("185.1.1.1", $0)) }
        for client in clients {
            try #require(client.allocate { $0.append(.additionalAddressFamily, [2, 0, 0, 0]) }?.isSuccess == true)
        }
        var channel: UInt16 = 0x4000
        for bits in Self.addresses {
            try check(
                bits,
                lab,
                clients[0],
                clients[1],
                channel: channel,
                isAllowed: PolicyOracle.allows(bits, allowing: allowing)
            )
            channel += 1
        }
    }

    @Test func theOracleKnowsWhatTheTableSays() {
        // The oracle is judged by hand where the table speaks plainly, and it must not be one-sided.
        for text in [
            "8.8.8.8", "1.1.1.1", "2606:4700::1111", "192.0.1.1", "172.32.0.1", "100.128.0.0", "11.0.0.0",
            "223.255.255.255", "2003::1", "64:ff9b::808:808",
        ] {
            #expect(PolicyOracle.allows(PolicyOracle.bits(text)), "PA-42 \(text)")
        }
        for text in Self.named.prefix(while: { $0 != "8.8.8.8" })
        where text != "64:ff9b::808:808" && !text.contains("100:5efe") {
            #expect(!PolicyOracle.allows(PolicyOracle.bits(text)), "\(text)")
        }
        for text in ["1.2.3.4", "2001:db8:0:0:0:0:0:1", "0:0:0:0:0:0:0:0"] {
            #expect(PolicyOracle.text(PolicyOracle.bits(text)) == text)
        }
        #expect(PolicyOracle.step(PolicyOracle.bits("10.0.0.0"), up: false) == PolicyOracle.bits("9.255.255.255"))
        #expect(Self.addresses.count > 250)
    }

    @Test func pa01ToPa42_byEveryPathAsTheTableSays() throws { try checkAll(lab()) }

    @Test func def1_allowingEverythingOpensNothingThatIsNever() throws {
        try checkAll(
            lab { $0.policy.allow = [.v4(0, 0), .v6(0, 0, 0)] },
            allowing: ["0.0.0.0/0", "::/0"]
        )
    }

    @Test func allowingOneFamilySaysNothingOfTheOther() throws {
        try checkAll(lab { $0.policy.allow = [.v6(0, 0, 0)] }, allowing: ["::/0"])
        try checkAll(lab { $0.policy.allow = [.v4(0, 0)] }, allowing: ["0.0.0.0/0"])
    }

    @Test func def1_denyWinsOverAllow() throws {
        let policy = PeerPolicy(allow: [.v4(0x0A00_0000, 8)], deny: [.v4(0x0A01_0000, 16), .v4(0x0808_0000, 16)])
        for (text, isAllowed) in [
            ("10.0.0.1", true), ("10.1.0.1", false), ("10.2.0.0", true), ("8.8.8.8", false), ("8.9.0.0", true),
            ("2606:4700::1", true),
        ] {
            #expect((policy.decide(IPAddress(text)) == .allowed) == isAllowed, "\(text)")
        }
        // What an encoding hides is denied as well.
        #expect(policy.decide(IPAddress("64:ff9b::8.8.8.8")) == .denied)
        #expect(PeerPolicy(deny: [.v6(0, 0, 0)]).decide(IPAddress("8.8.8.8")) == .allowed)
        #expect(PeerPolicy(deny: [.v6(0, 0, 0)]).decide(IPAddress("2606:4700::1")) == .denied)
        #expect(PeerPolicy(deny: [.v4(0, 0)]).decide(IPAddress("2606:4700::1")) == .allowed)
    }

    @Test func pa15_aDirectedBroadcastIsDenied() throws {
        let policy = PeerPolicy(allow: [.v4(0, 0)], broadcastAddresses: [IPAddress("185.3.0.255")])
        #expect(policy.decide(IPAddress("185.3.0.255")) == .denied)
        #expect(policy.decide(IPAddress("185.3.0.254")) == .allowed)
    }

    @Test func pa40_aRangeOffPrefixBordersIsComparedAsANumber() {
        let lower = IPAddress("2001:db8:1::ff")
        let upper = IPAddress("2001:db8:2::1")
        let range = AddressRange(lowerHigh: lower.high, lowerLow: lower.low, upperHigh: upper.high, upperLow: upper.low)
        let policy = PeerPolicy(allow: [range])
        for (text, isInside) in [
            ("2001:db8:1::fe", false), ("2001:db8:1::ff", true), ("2001:db8:1::100", true),
            ("2001:db8:1:ffff:ffff:ffff:ffff:ffff", true),
            ("2001:db8:2::", true), ("2001:db8:2::1", true), ("2001:db8:2::2", false), ("2001:db8:3::", false),
            ("2001:db8::ff", false),
        ] {
            #expect((policy.decide(IPAddress(text)) == .allowed) == isInside, "\(text)")
        }
    }

    /// RFC 6052 section 2.4 writes 192.0.2.33 behind six prefixes; here with an address that says more.
    @Test(arguments: [
        ("2001:db8::", 32, "2001:db8:c000:221::"), ("2001:db8:100::", 40, "2001:db8:1c0:2:21::"),
        ("2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"), ("2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::", 96, "2001:db8:122:344::c000:221"),
    ])
    func pa24_anOperatorsNAT64PrefixIsLookedThrough(_ network: String, _ length: Int, _ example: String) throws {
        let prefix = try #require(NAT64Prefix(IPAddress(network), length: length))
        #expect(prefix.embedded(in: IPAddress(example)) == IPAddress("192.0.2.33"))
        #expect(prefix.embedded(in: IPAddress("2001:db9::c000:221")) == nil)
        #expect(prefix.embedded(in: IPAddress("192.0.2.33")) == nil)
        let policy = PeerPolicy(nat64Prefixes: [prefix])
        for (inside, isAllowed) in [
            ("127.0.0.1", false), ("10.0.0.1", false), ("169.254.169.254", false), ("0.0.0.0", false),
            ("168.63.129.16", false), ("255.255.255.255", false), ("192.0.2.33", false), ("8.8.8.8", true),
            ("223.255.255.255", true),
        ] {
            let bits = PolicyOracle.bits(network).prefix(length) + PolicyOracle.bits(inside)
            // By hand: the octet of zeros goes in at bit 64, and zeros fill the rest.
            let whole = length == 96 ? String(bits) : bits.prefix(64) + "00000000" + bits.dropFirst(64)
            let peer = IPAddress(PolicyOracle.text(whole + String(repeating: "0", count: 128 - whole.count)))
            #expect((policy.decide(peer) == .allowed) == isAllowed, "\(inside) behind \(network)/\(length)")
            // What fills the rest, and the octet, opens nothing.
            let odd = IPAddress(high: peer.high, low: length == 96 ? peer.low : peer.low | 0xFF00_0000_0000_0001)
            #expect(isAllowed || policy.decide(odd) == .denied)
        }
    }

    @Test func pa24_onlyTheSixLengthsOfRFC6052ArePrefixes() {
        let network = IPAddress("2600:1234:5678:9abc::")
        #expect((-1...129).filter { NAT64Prefix(network, length: $0) != nil } == [32, 40, 48, 56, 64, 96])
        #expect(NAT64Prefix(IPAddress("10.0.0.0"), length: 32) == nil)
        // Without being named, such a prefix is a range like any other.
        #expect(PeerPolicy().decide(IPAddress("2600:1234:5678:9abc::7f00:1")) == .allowed)
    }

    @Test func pa24_whatIsDeniedBehindAPrefixStaysDeniedWhateverIsAllowed() throws {
        let prefix = try #require(NAT64Prefix(IPAddress("fd64:ff9b::"), length: 96))
        let policy = PeerPolicy(allow: [.v6(0, 0, 0)], deny: [.v4(0x0808_0800, 24)], nat64Prefixes: [prefix])
        #expect(policy.decide(IPAddress("fd64:ff9b::127.0.0.1")) == .denied)
        #expect(policy.decide(IPAddress("fd64:ff9b::10.0.0.1")) == .denied)
        #expect(policy.decide(IPAddress("fd64:ff9b::8.8.8.8")) == .denied)
        #expect(policy.decide(IPAddress("fd64:ff9b::1.1.1.1")) == .allowed)
    }

    @Test func loopbackOpensForTestsAlone() {
        let policy = PeerPolicy(allowsLoopback: true)
        for (text, isAllowed) in [
            ("127.0.0.1", true), ("127.255.255.255", true), ("::1", true), ("::", false), ("::2", false),
            ("0.0.0.0", false),
            ("128.0.0.1", true), ("10.0.0.1", false), ("::ffff:127.0.0.1", false),
            ("169.254.169.254", false),
        ] {
            #expect((policy.decide(IPAddress(text)) == .allowed) == isAllowed, "\(text)")
        }
        #expect(
            PeerPolicy(deny: [.v4(0x7F00_0001, 32), .v6(0, 1, 128)], allowsLoopback: true).decide(
                IPAddress("127.0.0.1")
            ) == .denied
        )
        #expect(PeerPolicy(deny: [.v6(0, 1, 128)], allowsLoopback: true).decide(IPAddress("::1")) == .denied)
    }

    @Test func clientSourcesAreServedSilencedOrRefusedAsTheTableSays() throws {
        let lab = try lab { $0.allocationsPerUser = 0 }
        for (index, bits) in Self.addresses.enumerated() {
            let source = Endpoint(PolicyOracle.text(bits), 5_000 + UInt16(index))
            let client = lab.client(at: source, server: Endpoint(bits.count == 32 ? "185.0.0.5" : "2600:1::5", 3_478))
            let silenced = ["0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "ff00::/8", "::/128"]
            let refused = ["2001::/32", "2002::/16"]
            let answer = client.allocate()
            if silenced.contains(where: { PolicyOracle.isInside(bits, $0) }) {
                #expect(answer == nil, "\(source)")
            } else if refused.contains(where: { PolicyOracle.isInside(bits, $0) }) {
                #expect(answer?.error == 403, "\(source)")
            } else {
                // Clients come from private networks, too: the operator's own.
                #expect(answer?.isSuccess == true, "\(source)")
            }
        }
    }
}

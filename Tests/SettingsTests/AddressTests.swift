import Testing

@testable import Settings

@Suite struct AddressTests {
    @Test(arguments: [
        ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8"),
        ("64:ff9b::8.8.8.8", "64:ff9b::808:808"),
        ("::ffff:1.2.3.4", "::ffff:1.2.3.4"), ("1:2:3:4:5:6::8", "1:2:3:4:5:6:0:8"), ("255.0.0.1", "255.0.0.1"),
        ("0:0:1::", "0:0:1::"), ("::1:0:0:0", "::1:0:0:0"),
    ])
    func addressesReadAndPrint(text: String, printed: String) {
        #expect(HostAddress(text)?.description == printed)
    }

    @Test(arguments: [
        "", ":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "::12345", "::g", "1:2:3:4:5:6:7:8::",
        "::1%lo", "[::1]",
        "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "1.2.3.-4", "0x7f.1.1.1", "1.2.3.4::", "::1.2.3", "::+1",
        " 1.2.3.4",
        "localhost", "1.2.3.4:5", ":1", "1:", "::1:", "١.1.1.1", "1:2:3:4:5:6:7:1.2.3.4", "1:2:3:4::5:6:7:8", "é::",
    ])
    func whatIsNoAddressIsNone(text: String) {
        #expect(HostAddress(text) == nil)
    }

    @Test func nat64PrefixesAreOfTheLengthsOfRFC6052() throws {
        let text = "['2001:db8::/32', '2600:1:200::/40', 'fd64:ff9b::/96']"
        let ranges = try #require(try load("relay: {nat64_prefixes: \(text)}").settings?.relay.nat64Prefixes)
        #expect(ranges.map(\.description) == ["2001:db8::/32", "2600:1:200::/40", "fd64:ff9b::/96"])
        for wrong in ["2001:db8::/33", "2001:db8::/128", "10.0.0.0/8", "2001:db8::", "::/0", "2001:db8::-2001:db9::"] {
            let outcome = try load("relay: {nat64_prefixes: ['\(wrong)']}")
            #expect(outcome.settings == nil, "\(wrong)")
            #expect(outcome.errors.first?.message.contains("NAT64") == true, "\(outcome.errors)")
        }
        #expect(try load("relay: {nat64_prefixes: ['2001:db8:0:0:100::/96']}").settings == nil)
    }

    @Test(arguments: [
        ("10.0.0.0/8", "10.0.0.0", "10.255.255.255"), ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
        ("fd00::/8", "fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::/65", "2001:db8::", "2001:db8::7fff:ffff:ffff:ffff"),
        ("2001:db8:1::ff-2001:db8:2::1", "2001:db8:1::ff", "2001:db8:2::1"),
        ("192.0.2.1-192.0.2.9", "192.0.2.1", "192.0.2.9"),
        ("192.0.2.1 - 192.0.2.9", "192.0.2.1", "192.0.2.9"),
    ])
    func rangesReadInNumericOrder(text: String, lower: String, upper: String) throws {
        let range = try #require(try load("relay: {deny_peers: ['\(text)']}").settings?.relay.denyPeers.first)
        #expect(range.lower.description == lower && range.upper.description == upper)
        #expect(range.description == text.split(separator: " ").joined())
    }

    @Test func aRangeHoldsWhatLiesInIt() throws {
        let range = try AddressRange(text: "2001:db8:1::ff-2001:db8:2::1")
        for (text, isInside) in [
            ("2001:db8:1::fe", false), ("2001:db8:1::ff", true), ("2001:db8:1:ffff::", true), ("2001:db8:2::1", true),
            ("2001:db8:2::2", false),
        ] {
            #expect(range.contains(try #require(HostAddress(text))) == isInside, "\(text)")
        }
    }

    @Test func allOfIPv6SaysNothingAboutIPv4() throws {
        let outcome = try load("relay: {deny_peers: ['::/0']}")
        let ranges = try #require(outcome.settings?.relay.denyPeers)
        #expect(!ranges.contains { $0.contains(HostAddress(v4: 0x0808_0808)) })
        for text in [
            "::", "::fffe:ffff:ffff:ffff", "::1:0:0:0", "2001:db8::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let address = try #require(HostAddress(text))
            #expect(ranges.contains { $0.contains(address) }, "\(text)")
        }
        #expect(outcome.origins.first { $0.key == "relay.deny_peers" }?.value == .list(["::/0"]))
    }

    @Test(arguments: [
        ("10.0.0.1/8", "write 10.0.0.0/8, or 10.0.0.1"), ("2001:db8::1/32", "write 2001:db8::/32, or 2001:db8::1"),
        ("10.0.0.0/33", "IPv4 takes /0 to /32"), ("::/129", "IPv6 takes /0 to /128"),
        ("10.0.0.0/-1", "no address range"), ("10.0.0.0/", "no valid prefix"),
        ("10.0.0.9-10.0.0.1", "reversed; write 10.0.0.1-10.0.0.9"), ("10.0.0.1-::2", "one range for each"),
        ("10.0.0.0/255.0.0.0", "no valid prefix"),
        ("10/8", "no address range"), ("example.org", "no address range"), ("", "is empty"),
        ("::ffff:10.0.0.0/104", "write it as IPv4: 10.0.0.0/8"),
    ])
    func otherRangesAreRefusedWithTheMend(text: String, mend: String) throws {
        for key in ["allow_peers", "deny_peers"] {
            let outcome = try load("relay:\n  \(key):\n    - 192.0.2.0/24\n    - \"\(text)\"\n")
            let diagnostic = try #require(outcome.errors.first)
            #expect(
                diagnostic.message.hasPrefix("relay.\(key): ") && diagnostic.message.contains(mend),
                "\(diagnostic)"
            )
            #expect(diagnostic.line == 4 && diagnostic.column == 7)
        }
    }

    @Test func everyClosedRangeOfTheTableIsRead() {
        #expect(ClosedRanges.entries.count == ClosedRanges.table.count)
    }

    @Test(arguments: [
        ("0.0.0.0", "this network"), ("0.1.2.0/24", "this network"), ("127.0.0.0/8", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.169.254", "metadata"), ("224.0.0.0/4", "multicast"), ("239.1.2.3", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"), ("224.0.0.0/3", "multicast"), ("168.63.129.16/32", "Azure"),
        ("fd00:ec2::254", "AWS"),
        ("fd20:ce::254", "Google"), ("::", "unspecified"), ("::1", "loopback"), ("::2-::9", "v4-compatible"),
        ("::7f00:1", "v4-compatible"),
        ("2001::/32", "Teredo"), ("2001:0:1::/48", "Teredo"), ("2002:a00:1::/48", "6to4"), ("fe80::/10", "link-local"),
        ("fe80::1", "link-local"), ("fec0::/16", "site-local"), ("fe80::/9", "link-local"), ("ff02::1", "multicast"),
        ("fe80::-feff::", "link-local"),
    ])
    func openingWhatStaysClosedIsRefusedWithTheReason(text: String, reason: String) throws {
        let outcome = try load("relay: {allow_peers: ['\(text)']}")
        #expect(outcome.settings == nil)
        let message = outcome.errors.first?.message ?? ""
        #expect(message.contains("can never be opened") && message.contains(reason), "\(message)")
        #expect(try load("relay: {deny_peers: ['\(text)']}").diagnostics.isEmpty)
    }

    @Test(arguments: [
        "0.0.0.0/0", "::/0", "10.0.0.0/8", "172.16.0.0/12", "100.64.0.0/10", "1.0.0.0-127.0.0.1", "128.0.0.0/1",
        "126.255.255.255", "128.0.0.0",
        "169.0.0.0/8", "168.63.129.17", "168.63.129.16/31", "223.255.255.255", "fd00::/8", "fd00:ec2::253", "::1:0:0",
        "2000::/3", "2001:1::/32",
        "2003::1", "fe00::-fe80::1", "fe7f::1", "64:ff9b::/96", "192.168.1.0/24",
    ])
    func openingWhatReachesBeyondIsAllowed(text: String) throws {
        #expect(try load("relay: {allow_peers: ['\(text)']}").diagnostics.isEmpty)
    }

    @Test(arguments: [
        "3478", "0.0.0.0", "::", "[::]", "[::]:", "0.0.0.0:65536", "0.0.0.0:-1", "0.0.0.0:abc", "::1:3478",
        "[0.0.0.0]:3478", "[::]3478", "localhost:3478",
        "224.0.0.1:3478", "[ff02::1]:3478", "[::ffff:127.0.0.1]:3478", "[fe80::1]:3478", "[::1]:03478", "*:3478",
        ":3478", "[]:1", "[:1", "]:1", ":",
    ])
    func endpointsThatCannotBeListenedOnAreRefused(text: String) throws {
        let outcome = try load("listen: {udp: ['\(text)']}")
        #expect(outcome.settings == nil)
        #expect(outcome.errors.first?.message.hasPrefix("listen.udp: ") == true)
        #expect(outcome.errors.first?.column == 16)
    }

    @Test func listsOfThousandsAreRefused() throws {
        let ranges = Array(repeating: "192.0.2.1", count: 4097)
        #expect(try load(set: ["relay.deny_peers=" + ranges.dropFirst().joined(separator: ",")]).settings != nil)
        let outcome = try load(set: ["relay.deny_peers=" + ranges.joined(separator: ",")])
        #expect(outcome.errors.first?.message == "relay.deny_peers: has 4097 entries; write at most 4096")
    }

    @Test func listenersAreAtLeastOneAndNoneTwice() throws {
        #expect(try load("listen: {udp: []}").errors.first?.message.contains("listen nowhere") == true)
        #expect(
            try load("listen: {udp: ['127.0.0.1:1', '127.0.0.1:1']}").errors.first?.message.contains("twice") == true
        )
        #expect(try load("listen: {udp: ['127.0.0.1:0', '127.0.0.1:0']}").settings?.listen.udp.count == 2)
        #expect(try load("listen: {udp: '127.0.0.1:9'}").settings?.listen.udp.map(\.description) == ["127.0.0.1:9"])
    }

    @Test func loopbackPeersAreRefusedUnlessEveryListenerIsOnLoopback() throws {
        let relay = "relay:\n  allow_loopback_peers: true\n"
        let outcome = try load(relay)
        #expect(
            outcome.errors.first?.description.hasPrefix(
                "turnpike.yml:2:25: error: relay.allow_loopback_peers: true is refused while "
                    + "listen.udp has 0.0.0.0:3478"
            ) == true
        )
        #expect(
            try load(relay + "listen: {udp: ['127.0.0.1:0', '[::1]:0']}").settings?.relay.allowLoopbackPeers == true
        )
        #expect(try load(relay + "listen: {udp: ['127.0.0.1:0', '192.0.2.1:0']}").settings == nil)
        let withPlanned = try load(relay + "listen: {udp: ['127.0.0.1:0'], https: ['0.0.0.0:443']}")
        #expect(withPlanned.errors.first?.message.contains("listen.https has 0.0.0.0:443") == true)
        #expect(try load(relay + "listen: {udp: ['127.9.9.9:0'], https: ['127.0.0.1:443']}").settings != nil)
    }

    @Test func alternateAddressesAreOneForEachFamilyBesideAListener() throws {
        let outcome = try load("listen: {alternate: ['203.0.113.11:3479', '[2001:db8::11]:3479']}")
        #expect(outcome.diagnostics.isEmpty, "\(outcome.diagnostics)")
        let listen = try #require(outcome.settings?.listen)
        #expect(listen.alternate.map(\.description) == ["203.0.113.11:3479", "[2001:db8::11]:3479"])
        #expect(listen.alternate.map { listen.primary(of: $0)?.description } == ["0.0.0.0:3478", "[::]:3478"])
        // Whoever lists both addresses means the other one as the primary.
        let both = "listen: {udp: ['203.0.113.11:3478', '203.0.113.10:3478'], alternate: ['203.0.113.11:3479']}"
        let specific = try #require(try load(both).settings?.listen)
        #expect(specific.alternate.first.flatMap(specific.primary)?.description == "203.0.113.10:3478")
    }

    @Test(arguments: [
        ("alternate: ['0.0.0.0:3479']", "no single address"), ("alternate: ['203.0.113.11:0']", "no fixed port"),
        ("alternate: ['203.0.113.11:3479', '203.0.113.12:3479']", "are both IPv4"),
        ("alternate: ['203.0.113.11']", "has no port"),
        ("alternate: ['203.0.113.11:3478']", "has the port of 0.0.0.0:3478"),
        ("alternate: ['203.0.113.11:5349']", "has a port of listen.tls"),
        ("udp: ['203.0.113.11:3478'], alternate: ['203.0.113.11:3479']", "name a second address"),
        ("udp: ['[::]:3478'], alternate: ['203.0.113.11:3479']", "no IPv4 listener"),
        ("udp: ['0.0.0.0:0'], alternate: ['203.0.113.11:3479']", "needs a fixed port"),
    ])
    func otherAlternateAddressesAreRefused(text: String, reason: String) throws {
        let outcome = try load("listen: {\(text)}")
        #expect(outcome.settings == nil)
        #expect(outcome.errors.first?.message.hasPrefix("listen.alternate: ") == true, "\(outcome.diagnostics)")
        #expect(outcome.errors.first?.message.contains(reason) == true, "\(outcome.diagnostics)")
    }

    @Test func alternateAddressesNeedDiscoveryAndAnOutsideAddressOfTheirOwn() throws {
        let alternate = "listen: {alternate: ['10.0.0.6:3479']}\n"
        #expect(try load(alternate + "nat_discovery: false").errors.first?.message.contains("nat_discovery") == true)
        #expect(try load(alternate + "external_address: 203.0.113.10").errors.first?.message.contains("pairs") == true)
        #expect(try load(alternate + "external_address: '2001:db8::1'").settings != nil)
        #expect(
            try load(alternate + "external_address: [203.0.113.10/10.0.0.5, 203.0.113.11/10.0.0.6]").settings != nil
        )
    }

    @Test func externalAddressesHaveFourForms() throws {
        func external(_ text: String) throws -> Settings.ExternalAddress? {
            try load("external_address: \(text)").settings?.externalAddress
        }
        let v4 = try #require(HostAddress("203.0.113.10"))
        let v6 = try #require(HostAddress("2001:db8::10"))
        let inner = try #require(HostAddress("10.0.0.5"))
        #expect(try external("auto") == .auto)
        #expect(try external("203.0.113.10") == .addresses([v4]))
        #expect(try external("[203.0.113.10, '2001:db8::10']") == .addresses([v4, v6]))
        #expect(try external("203.0.113.10/10.0.0.5") == .pairs([.init(publicAddress: v4, privateAddress: inner)]))
        let outcome = try load(set: ["external_address=203.0.113.10/10.0.0.5,2001:db8::10/fd00::5"])
        #expect(
            outcome.origins.first { $0.key == "external_address" }?.value
                == .list(["203.0.113.10/10.0.0.5", "2001:db8::10/fd00::5"])
        )
    }

    @Test(arguments: [
        ("[203.0.113.10, 203.0.113.11]", "more than one IPv4"), ("['::2', 203.0.113.11/10.0.0.1]", "mixes"),
        ("[]", "empty list"), ("[auto]", "no IP address"),
        ("203.0.113.10/::1", "two families"), ("[203.0.113.10/10.0.0.1, 203.0.113.11/10.0.0.1]", "in two pairs"),
        ("0.0.0.0", "unspecified"),
        ("224.0.0.1", "multicast"), ("203.0.113.10/", "no IP address"), ("1.2.3.4/5.6.7.8/9", "no IP address"),
        ("example.org", "no IP address"),
    ])
    func otherExternalAddressesAreRefused(text: String, reason: String) throws {
        let outcome = try load("external_address: \(text)")
        #expect(outcome.settings == nil)
        #expect(outcome.errors.first?.message.contains(reason) == true, "\(outcome.diagnostics)")
    }

    @Test func relayAddressesAreAutoOrAList() throws {
        let list = Settings.RelayAddresses.list([
            try #require(HostAddress("127.0.0.1")), try #require(HostAddress("::1")),
        ])
        #expect(try load("relay: {addresses: [127.0.0.1, '::1']}").settings?.relay.addresses == list)
        #expect(try load(set: ["relay.addresses=127.0.0.1,::1"]).settings?.relay.addresses == list)
        for text in ["[]", "[127.0.0.1, 127.0.0.1]", "0.0.0.0", "'::'", "127.0.0.1:3478", "fe80::1"] {
            #expect(try load("relay: {addresses: \(text)}").settings == nil, "\(text)")
        }
    }
}

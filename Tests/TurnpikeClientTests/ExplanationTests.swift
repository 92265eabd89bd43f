import Signaling
import Testing
import Traversal

@testable import TurnpikeClient

@Suite struct ExplanationTests {
    private static let kinds: [NATType] = [.open, .fullCone, .restricted, .portRestricted, .symmetric]
    /// D is expected to be direct, G takes guessing, N cannot be told by either side.
    private static let table = ["DDDDD", "DDDDD", "DDDDD", "DDDDG", "DDDGN"]
    private static let mine = [
        "Your address is public", "Your NAT lets anybody in", "Your NAT lets in the hosts",
        "Your NAT lets in only who it has sent to", "Your NAT gives each destination another port, at random",
    ]
    private static let theirs = [
        "the peer's address is public", "theirs lets anybody in", "theirs lets in the hosts",
        "theirs lets in only who it has sent to", "theirs gives each destination another port, at random",
    ]

    private static let both = [
        "Each side's address is public", "Each NAT lets anybody in", "Each NAT lets in the hosts",
        "Each NAT lets in only who it has sent to", "Each NAT gives each destination another port, at random",
    ]

    private static func facts(_ type: NATType) -> NetworkFacts {
        NetworkFacts(type: type, ports: type == .symmetric ? .random : nil)
    }

    private static let relay = path(.relayed, .relayed, "203.0.113.10:50000")

    private static func path(_ local: Path.End, _ remote: Path.End, _ address: String, isTCP: Bool = false) -> Path {
        Path(local: local, remote: remote, remoteAddress: address, isTCP: isTCP)
    }

    private func relayed(_ local: NetworkFacts, _ remote: NetworkFacts, isSettled: Bool = true) -> Explanation {
        var situation = Situation(local: local, remote: remote, path: Self.relay)
        situation.isSettled = isSettled
        return Explanation(situation)
    }

    /// A person reads it: sentences with their full stops, and none of them twice.
    private func expectProse(_ explanation: Explanation) {
        let text = explanation.description
        #expect(text.first?.isUppercase == true && text.hasSuffix("."), "\(text)")
        #expect(!text.contains("  ") && !text.contains("..") && !text.contains(" ."), "\(text)")
        #expect(text.utf8.count < 500, "\(text)")
    }

    @Test func everyCellOfTheMatrixIsToldOnTheRelay() {
        for (row, local) in Self.kinds.enumerated() {
            for (column, remote) in Self.kinds.enumerated() {
                let found = relayed(Self.facts(local), Self.facts(remote))
                let mark = Array(Self.table[row])[column]
                if row == column {
                    #expect(found.reason.hasPrefix(Self.both[row]) && !found.reason.contains("; "), "\(found)")
                } else {
                    #expect(found.reason.hasPrefix(Self.mine[row]), "\(found)")
                    #expect(found.reason.contains(Self.theirs[column]), "\(found)")
                }
                #expect(found.cause == (mark == "D" ? .firewall : .unpredictablePorts), "\(found)")
                switch mark {
                case "D": #expect(found.advice.contains("Let UDP out, and answers in"), "\(found)")
                case "G":
                    #expect(found.reason.contains("guessing one port of all, which mostly succeeds"), "\(found)")
                    #expect(found.advice == "Ask for UPnP or PCP on either router, or IPv6.", "\(found)")
                default: #expect(found.reason.contains("neither side can tell where to send to"), "\(found)")
                }
                expectProse(found)
            }
        }
    }

    @Test func everyCellOfTheMatrixIsForetold() {
        for (row, local) in Self.kinds.enumerated() {
            for (column, remote) in Self.kinds.enumerated() {
                let found = Explanation.forecast(Self.facts(local), Self.facts(remote))
                #expect(found.isDirect == (Array(Self.table[row])[column] == "D"), "\(local) and \(remote): \(found)")
                expectProse(found)
            }
        }
    }

    @Test func aPathThatIsStillLookedForIsNoFirewallsFault() {
        let found = relayed(Self.facts(.fullCone), Self.facts(.restricted), isSettled: false)
        #expect(found.cause == .underWay && found.advice.isEmpty, "\(found)")
        // What cannot be is told at once.
        let hard = relayed(Self.facts(.portRestricted), Self.facts(.symmetric), isSettled: false)
        #expect(hard.cause == .unpredictablePorts)
    }

    @Test func aWayThatWorksInOneDirectionPointsToTheOtherSide() {
        var situation = Situation(local: Self.facts(.fullCone), remote: Self.facts(.fullCone), path: Self.relay)
        (situation.isSettled, situation.isHeard) = (true, true)
        let found = Explanation(situation)
        #expect(found.reason.contains("arrives here and what you send does not"), "\(found)")
        #expect(found.advice.contains("the peer's machine and router"), "\(found)")
    }

    @Test(arguments: [
        (NetworkFacts.Ports.sequential, "one after the other", "guessing the next port, which mostly succeeds"),
        (.chunked, "out of a block", "guessing the port out of that block"),
        (.random, "at random", "guessing one port of all"),
    ])
    func whatASymmetricNATDoesWithItsPortsDecides(_ ports: NetworkFacts.Ports, _ how: String, _ end: String) {
        let found = relayed(NetworkFacts(type: .symmetric, ports: ports), Self.facts(.portRestricted))
        #expect(found.cause == .unpredictablePorts && found.reason.contains(how), "\(found)")
        #expect(found.reason.contains(end), "\(found)")
    }

    @Test func aFirewallBeforeAPublicAddressCountsAsAPortRestrictedNAT() {
        var firewalled = Self.facts(.open)
        firewalled.isFirewalled = true
        let hard = relayed(firewalled, Self.facts(.symmetric))
        #expect(hard.cause == .unpredictablePorts && hard.reason.contains("behind a firewall"), "\(hard)")
        #expect(relayed(firewalled, Self.facts(.portRestricted)).cause == .firewall)
        #expect(!Explanation.forecast(firewalled, Self.facts(.symmetric)).isDirect)
    }

    // MARK: Networks that let little through

    @Test func blockedUDPIsNamedWithItsSide() {
        let blocked = Self.facts(.blocked)
        let here = relayed(blocked, Self.facts(.open))
        #expect(here.cause == .udpBlocked && here.reason.hasPrefix("Your network lets no UDP through"), "\(here)")
        #expect(here.advice.contains("the firewall of your network"), "\(here)")
        let there = relayed(Self.facts(.open), blocked)
        #expect(there.reason.hasPrefix("The peer's network lets no UDP through"), "\(there)")
        let both = relayed(blocked, blocked)
        #expect(both.reason.hasPrefix("Both networks let no UDP through"), "\(both)")
        for found in [here, there, both] { expectProse(found) }
    }

    @Test func nothingButPort443IsNamed() {
        var blocked = Self.facts(.blocked)
        blocked.hasOnlyPort443 = true
        let here = relayed(blocked, Self.facts(.portRestricted))
        #expect(here.cause == .onlyPort443, "\(here)")
        #expect(here.reason.hasPrefix("Your network lets nothing through but TCP to port 443, so data goes"), "\(here)")
        #expect(relayed(Self.facts(.portRestricted), blocked).cause == .onlyPort443)
    }

    @Test func withoutARelayTheMendIsOne() {
        var situation = Situation(local: Self.facts(.blocked), remote: Self.facts(.open))
        situation.hasRelay = false
        #expect(Explanation(situation).advice.hasSuffix("set TURN_SERVERS, TURN_USERNAME and TURN_PASSWORD."))
        situation.hasRelay = true
        #expect(!Explanation(situation).advice.contains("TURN_SERVERS"))
    }

    @Test func aPortThatTheRouterHasOpenedIsNamed() {
        var mapped = Self.facts(.fullCone)
        mapped.isMapped = true
        let found = Explanation.forecast(mapped, Self.facts(.symmetric))
        #expect(found.isDirect && found.reason.hasPrefix("Your router has opened a port that everybody may send to; "))
    }

    @Test func aServerInTheSameNetworkSaysNothingOfTheNAT() throws {
        var inside = Self.facts(.open)
        inside.note(outside: try #require(AddressText.address("192.168.1.7")))
        let found = Explanation.forecast(inside, Self.facts(.open))
        #expect(found.reason.hasPrefix("Your address is in the same private network as the server"))
        inside.note(host: try #require(AddressText.address("198.51.100.7")))
        let known = Explanation.forecast(inside, Self.facts(.open))
        #expect(known.reason.hasPrefix("Each side's address is public and open to all"))
    }

    // MARK: Layers and families

    @Test func aProvidersNATIsNobodysToConfigure() {
        var carrier = Self.facts(.symmetric)
        carrier.layers = .carrier
        let mine = relayed(carrier, Self.facts(.portRestricted))
        #expect(mine.advice.hasPrefix("Ask for UPnP or PCP on the peer's router, or IPv6."), "\(mine)")
        #expect(mine.advice.contains("Your provider has a NAT of its own (CGNAT)"), "\(mine)")
        let both = relayed(carrier, carrier)
        #expect(both.advice.hasPrefix("Ask for IPv6. Your provider"), "\(both)")
        #expect(both.advice.contains("The peer's provider has"), "\(both)")
        expectProse(both)
    }

    @Test func twoRoutersInARowAreToldApart() {
        var double = Self.facts(.symmetric)
        double.layers = .double
        let found = relayed(Self.facts(.portRestricted), double)
        #expect(found.advice.contains("two routers before the peer, one behind the other"), "\(found)")
        #expect(found.advice.contains("bridge mode"), "\(found)")
    }

    @Test func layersAreReadFromAddresses() throws {
        var facts = Self.facts(.portRestricted)
        facts.note(outside: try #require(AddressText.address("203.0.113.7")))
        facts.note(router: try #require(AddressText.address("203.0.113.7")))
        #expect(facts.layers == nil)
        facts.note(router: try #require(AddressText.address("192.168.1.2")))
        #expect(facts.layers == .double)
        facts.note(router: try #require(AddressText.address("100.64.3.4")))
        #expect(facts.layers == .carrier)
        var mobile = NetworkFacts()
        mobile.note(host: try #require(AddressText.address("100.127.255.1")))
        #expect(mobile.layers == .carrier)
        var router = Self.facts(.portRestricted)
        router.note(outside: try #require(AddressText.address("203.0.113.7")))
        router.note(router: try #require(AddressText.address("198.51.100.9")))
        #expect(router.layers == .double)
    }

    @Test func ipv6OnOneSideIsToldToTheOther() throws {
        var here = Self.facts(.symmetric)
        here.note(host: try #require(AddressText.address("2001:db8::1")))
        let found = relayed(here, Self.facts(.portRestricted))
        #expect(found.advice == "Ask for UPnP or PCP on either router, or IPv6 at the peer's end.", "\(found)")
        let other = relayed(Self.facts(.portRestricted), here)
        #expect(other.advice.hasSuffix("or IPv6 at your end."), "\(other)")
    }

    @Test func differentFamiliesAreJoinedByARelayAlone() {
        var (here, there) = (Self.facts(.open), Self.facts(.portRestricted))
        (here.families, there.families) = ([.ipv6], [.ipv4])
        let found = relayed(here, there)
        #expect(found.cause == .noCommonFamily, "\(found)")
        #expect(found.reason.hasPrefix("You have IPv6 alone and the peer has IPv4 alone"), "\(found)")
        #expect(found.advice.hasPrefix("IPv6 at the peer's end"), "\(found)")
        #expect(relayed(there, here).advice.hasPrefix("IPv6 at your end"))
        expectProse(found)
    }

    // MARK: One NAT before both

    private static func behind(_ address: UInt32, host: UInt32, _ type: NATType = .portRestricted) -> NetworkFacts {
        var facts = NetworkFacts(type: type)
        facts.note(outside: IPAddress(v4: address))
        facts.note(host: IPAddress(v4: host))
        return facts
    }

    @Test func twoHostsOfOneLANThatDoNotReachEachOtherAreIsolated() {
        let here = Self.behind(0xCB00_7107, host: 0xC0A8_0102)
        let there = Self.behind(0xCB00_7107, host: 0xC0A8_0103)
        let found = relayed(here, there)
        #expect(found.cause == .isolated && found.reason.contains("one local network behind 203.0.113.7"), "\(found)")
        #expect(found.advice.contains("client isolation"), "\(found)")
        #expect(relayed(here, there, isSettled: false).cause == .underWay)
        expectProse(found)
    }

    @Test func aMissingHairpinIsNamed() {
        var here = Self.behind(0xCB00_7107, host: 0xC0A8_0102)
        let there = Self.behind(0xCB00_7107, host: 0x0A00_0003)
        #expect(relayed(here, there).reason.contains("seems to lead nothing"))
        here.hairpin = false
        let found = relayed(here, there)
        #expect(found.cause == .noHairpin && found.reason.contains("203.0.113.7"), "\(found)")
        #expect(found.advice.hasPrefix("Switch on hairpinning"), "\(found)")
        expectProse(found)
        here.layers = .carrier
        #expect(relayed(here, there).advice.hasPrefix("It is the provider's NAT"))
        here.hairpin = true
        #expect(relayed(here, there).cause == .firewall)
    }

    // MARK: What was asked for, and what is not known

    @Test func aRequiredRelayIsNobodysFault() {
        var situation = Situation(local: Self.facts(.open), remote: Self.facts(.open), path: Self.relay)
        situation.relayRequired = .here
        #expect(Explanation(situation).cause == .relayRequired && Explanation(situation).advice.isEmpty)
        situation.relayRequired = .there
        #expect(Explanation(situation).advice.contains("--require-relay"))
    }

    @Test func aPeerThatTellsNothingIsUnknown() {
        let found = relayed(Self.facts(.symmetric), NetworkFacts())
        #expect(found.cause == .unknown, "\(found)")
        #expect(found.reason.hasPrefix("Your NAT gives each destination another port, at random. The peer"), "\(found)")
        #expect(found.advice.contains("UPnP"), "\(found)")
        let neither = relayed(NetworkFacts(), NetworkFacts())
        #expect(neither.advice == "Run turnpike-peer netcheck at both ends.", "\(neither)")
        for explanation in [found, neither, relayed(NetworkFacts(), Self.facts(.restricted))] {
            expectProse(explanation)
        }
    }

    @Test func aDirectPathIsExplainedToo() {
        func cause(_ path: Path) -> Explanation.Cause {
            let found = Explanation(
                Situation(local: Self.facts(.portRestricted), remote: Self.facts(.fullCone), path: path)
            )
            #expect(found.isDirect && found.advice.isEmpty, "\(found)")
            expectProse(found)
            return found.cause
        }
        #expect(cause(Self.path(.host, .host, "192.168.1.3:4000")) == .localNetwork)
        #expect(cause(Self.path(.host, .host, "198.51.100.3:4000")) == .reachable)
        #expect(cause(Self.path(.host, .host, "[2001:db8::7]:4000")) == .ipv6)
        #expect(cause(Self.path(.host, .host, "[fe80::7]:4000")) == .localNetwork)
        #expect(cause(Self.path(.host, .host, "[::1]:4000")) == .localNetwork)
        #expect(cause(Self.path(.host, .host, "127.0.0.1:4000")) == .localNetwork)
        #expect(cause(Self.path(.serverReflexive, .peerReflexive, "198.51.100.3:4000")) == .punched)
        #expect(cause(Self.path(.serverReflexive, .serverReflexive, "198.51.100.3:4000", isTCP: true)) == .punched)
    }

    @Test func whoeverIsOpenIsReachedWithoutAPunch() {
        let path = Self.path(.serverReflexive, .host, "198.51.100.3:4000")
        for (here, there) in [(NATType.symmetric, NATType.open), (.open, .portRestricted)] {
            let found = Explanation(Situation(local: Self.facts(here), remote: Self.facts(there), path: path))
            #expect(found.cause == .reachable && found.isDirect, "\(found)")
            #expect(found.reason.hasSuffix("The open side was reached as it is: the path is direct."), "\(found)")
            expectProse(found)
        }
        var firewalled = Self.facts(.open)
        firewalled.isFirewalled = true
        let found = Explanation(Situation(local: firewalled, remote: Self.facts(.portRestricted), path: path))
        #expect(found.cause == .punched, "\(found)")
    }

    @Test func aGuessedPortIsToldFromAnOrdinaryPunch() {
        let path = Self.path(.serverReflexive, .peerReflexive, "198.51.100.3:4000")
        var situation = Situation(local: Self.facts(.portRestricted), remote: Self.facts(.symmetric), path: path)
        situation.isGuessed = true
        #expect(Explanation(situation).reason.hasSuffix("at random. The port was guessed: the path is direct."))
        situation.isGuessed = false
        #expect(Explanation(situation).reason.hasSuffix("until the other was let in: the path is direct."))
    }

    @Test func whatPeersTellEachOtherIsReadAsItWasWritten() throws {
        var facts = NetworkFacts(type: .symmetric, ports: .sequential)
        (facts.layers, facts.isFirewalled, facts.hasOnlyPort443, facts.isMapped) = (.carrier, true, true, true)
        facts.families = [.ipv4, .ipv6]
        let payload = JSONValue.object(["nat": .string("Symmetric"), NetworkFacts.member: facts.signaled])
        #expect(NetworkFacts(signaled: payload) == facts)
        // What makes no sense is as good as nothing.
        let nonsense = try JSONText(#"{"nat":"?","network":{"ports":7,"layers":"x","families":[1,"ipv5"]}}"#).value
        #expect(NetworkFacts(signaled: nonsense) == NetworkFacts())
        #expect(NetworkFacts(signaled: .object(["sdp": .string("")])) == nil)
    }
}

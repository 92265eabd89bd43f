import PeerCommands
import Testing
import TurnpikeClient

@Suite struct VerdictTests {
    private func verdict(_ nat: NATReport?, _ relays: [NetworkReport.Relay]) -> String {
        Verdict(Example.report(nat, relays)).text
    }

    @Test(arguments: [
        (NATName.open, "every peer that gets UDP through will be reached directly"),
        (.fullCone, "Nearly every peer will be reached directly"),
        (.restricted, "Nearly every peer will be reached directly"),
        (.portRestricted, "those behind a Symmetric NAT mostly by guessing its port"),
        (.symmetric, "only peers that are Open, Full Cone or Restricted"),
    ])
    func eachKindOfNATHasItsOwnExpectation(_ name: NATName, _ words: String) {
        let text = verdict(Example.nat(name), [Example.working])
        #expect(text.contains(words), "\(text)")
        #expect(text.hasSuffix("The relay is there for the rest, by UDP, 12.3 ms away."), "\(text)")
    }

    @Test func aServerInThePrivateNetworkOfThisMachineProvesNothing() {
        var nat = Example.nat(.open)
        (nat.local, nat.mapped) = (Example.inside, Example.inside)
        let text = verdict(nat, [Example.working])
        #expect(text.hasPrefix("The server is in the private network that this machine is in"), "\(text)")
        #expect(text.contains("ask a STUN server elsewhere"), "\(text)")
    }

    @Test func aBlockedNetworkGoesThroughTheRelay() {
        let tls = Example.relay(.works(roundTripNanoseconds: nil, relayed: [Example.server]), by: .tls)
        let text = verdict(Example.nat(.blocked), [Example.silent, tls])
        #expect(text.contains("lets no UDP through, so connections go through the relay"), "\(text)")
        #expect(text.hasSuffix("by TLS. Of 2 ways to TURN servers, 1 does not work; see above."), "\(text)")
    }

    @Test func aSymmetricNATWithoutARelayIsToldToGetOne() {
        let text = verdict(Example.nat(.symmetric), [])
        #expect(text.contains("You need a relay for the rest, and none is configured: set TURN_SERVERS"), "\(text)")
    }

    @Test func whatCanBeMendedHereIsNamedBeforeSilence() {
        let text = verdict(Example.nat(.portRestricted), [Example.silent, Example.wrongPassword])
        #expect(text.hasSuffix("and none works: correct TURN_USERNAME and TURN_PASSWORD."), "\(text)")
    }

    @Test func silenceAllRoundIsNoReasonToBlameTheNAT() {
        let text = verdict(Example.nat(.blocked), [Example.silent])
        #expect(text.hasPrefix("Nothing works: no server answers"), "\(text)")
        #expect(text.contains("Check that this machine is online"), "\(text)")
    }

    @Test func aServerThatIsReachedAndRefusesIsNotSilent() {
        let text = verdict(Example.nat(.blocked), [Example.wrongPassword])
        #expect(
            text == "Nothing works yet: the TURN server is reached, but correct TURN_USERNAME and TURN_PASSWORD.",
            "\(text)"
        )
    }

    @Test func refusedConnectionsPointToTheAddresses() {
        let refused = Example.relay(.failed(Problem(.refused, "nothing listens there")))
        let text = verdict(nil, [refused])
        #expect(text.contains("no server listens where STUN_SERVERS and TURN_SERVERS point"), "\(text)")
    }

    @Test func whatIsNotKnownIsSaidToBeUnknown() {
        var nat = Example.nat(.portRestricted)
        nat.name = .undetermined("it takes servers on two addresses to tell")
        let text = verdict(nat, [Example.working])
        #expect(text.contains("is not known, for it takes servers on two addresses to tell"), "\(text)")
    }

    @Test func theBestRelayIsTheFirstOfTheBestTransport() {
        let tcp = Example.relay(.works(roundTripNanoseconds: 1_000_000, relayed: []), by: .tcp)
        #expect(verdict(Example.nat(.symmetric), [tcp, Example.working]).contains("by UDP, 12.3 ms away"))
    }
}

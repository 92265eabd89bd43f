import Foundation
import PeerCommands
import Testing
import TurnpikeClient

@Suite struct NetworkReportTests {
    private let plain = Style(isColoured: false)

    @Test func theTextShowsTheNATAndEveryServer() {
        let report = Example.report(Example.nat(.portRestricted), [Example.working, Example.wrongPassword])
        let lines = report.text(plain).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        #expect(lines[0] == "NAT type      Port-Restricted")
        #expect(lines[1] == "  mapping     endpoint-independent: one public address for every destination")
        #expect(lines.contains("IPv4          203.0.113.100:41234 (here 192.168.100.2:40000)"))
        #expect(lines.contains("IPv6          no: this machine has no IPv6 address"))
        #expect(lines.contains("  ok    203.0.113.10:3478"))
        #expect(
            lines.contains(
                "  ok    udp   turn:203.0.113.10:3478?transport=udp  12.3 ms   relays from 203.0.113.10"
            )
        )
        #expect(lines.contains("  part  udp   turn:203.0.113.10:3478?transport=udp  12.3 ms"))
        #expect(lines.contains("              Mend: correct TURN_USERNAME and TURN_PASSWORD"))
        #expect(lines.last?.isEmpty == true && lines.dropLast().last == Verdict(report).text)
    }

    @Test func theTextSaysWhyAThingIsNotKnown() {
        var nat = Example.nat(.portRestricted)
        nat.filtering = .undetermined("no server has a second address to answer from")
        let text = Example.report(nat, []).text(plain)
        #expect(text.contains("  filtering   not known: no server has a second address to answer from\n"))
        #expect(text.contains("  lifetime    not known: it was not measured; --lifetime finds out\n"))
    }

    @Test(arguments: [
        (NATPortAllocation.sequential(step: -2), "sequential: each 2 below the last", "counted one after the other"),
        (.chunked(40_000...40_480), "chunked: drawn from a block that has 40000 to 40480 in it", "a block of its own"),
        (.random, "random: nobody can tell the next", "drawn at random"),
    ])
    func aHardNATsPatternIsTold(allocation: NATPortAllocation, row: String, verdict: String) {
        var nat = Example.nat(.symmetric)
        nat.allocation = .determined(allocation)
        let report = Example.report(nat, [])
        #expect(report.text(plain).contains("  ports       \(row)"))
        #expect(Verdict(report).text.contains("gives each destination another port, "))
        #expect(Verdict(report).text.contains(verdict) && Verdict(report).text.contains("Set the router to "))
    }

    @Test func whatATCPPortThatChangesGoesByIsTold() throws {
        var report = Example.report(Example.nat(.symmetric), [])
        var tcp = StreamNATReport()
        tcp.mapping = .determined(.addressAndPortDependent)
        report.tcp = tcp
        #expect(!report.text(plain).contains("TCP ports"))
        report.tcp?.allocation = .sequential(step: 2)
        #expect(report.text(plain).contains("\n  TCP ports   sequential: each 2 above the last"))
        let document = try #require(try object(report)["tcp"] as? [String: Any])
        #expect(document["portAllocation"] as? String == "sequential" && document["portStep"] as? Int == 2)
    }

    @Test func itTellsWhichPeersAreReachedHow() throws {
        let report = Example.report(Example.nat(.portRestricted), [Example.working])
        #expect(
            report.text(plain).contains(
                "Peers behind NATs\n  directly    Open, Full Cone, Restricted, Port-Restricted\n"
                    + "  by guessing Symmetric\n  by relay    none\n"
            )
        )
        var counting = Example.nat(.symmetric)
        counting.allocation = .determined(.sequential(step: 1))
        #expect(
            Example.report(counting, [Example.working]).text(plain).contains(
                "  directly    Open, Full Cone, Restricted\n"
                    + "  by guessing Port-Restricted, Symmetric that counts its ports\n  by relay    Symmetric\n"
            )
        )
        let blocked = Example.report(Example.nat(.blocked), [Example.working]).text(plain)
        #expect(blocked.contains("  directly    none\n"))
        let peers = try #require(try object(report)["peers"] as? [[String: Any]])
        #expect(peers.map { $0["direct"] as? Bool } == [true, true, true, true, false])
        #expect(peers.map { $0["way"] as? String } == ["direct", "direct", "direct", "direct", "guessed"])
        #expect(peers.last?["cause"] as? String == "unpredictable-ports")
        #expect((peers.last?["reason"] as? String)?.contains("gives each destination another port") == true)
        #expect(try object(Example.report(nil, []))["peers"] as? [String] == [])
    }

    @Test func aNetworkWithNothingButPort443IsNamed() {
        var tls = Example.relay(.works(roundTripNanoseconds: nil, relayed: [Example.server]), by: .tls)
        tls.address?.port = 443
        let text = Verdict(Example.report(Example.nat(.blocked), [Example.silent, tls])).text
        #expect(text.contains("lets nothing through but TCP to port 443, so connections go through"), "\(text)")
    }

    @Test func aProvidersNATIsTold() {
        var nat = Example.nat(.symmetric)
        nat.local = Endpoint(address: IPAddress(v4: 0x6440_0002), port: 40_000)
        let text = Verdict(Example.report(nat, [Example.working])).text
        #expect(text.contains("Your provider has a NAT of its own (CGNAT)"), "\(text)")
        #expect(!text.contains("Set the router"), "\(text)")
    }

    @Test func coloursStandOnlyInAColouredStyle() {
        let report = Example.report(Example.nat(.blocked), [Example.silent])
        #expect(!report.text(plain).contains("\u{1B}"))
        #expect(report.text(Style(isColoured: true)).contains("\u{1B}[31mno"))
    }

    @Test func aServersNameCannotDisturbTheTerminal() {
        var relay = Example.silent
        relay.url = "turn:\u{1B}[2Jevil"
        #expect(Example.report(nil, [relay]).text(plain).contains("turn:\\u{1B}[2Jevil"))
    }

    @Test func theJSONHasTheSameKeysAlways() throws {
        let full = try keys(Example.report(Example.nat(.symmetric), [Example.working]))
        let empty = try keys(Example.report(nil, []))
        #expect(full.top == empty.top && full.family == empty.family)
        #expect(
            full.top == [
                "ipv4", "ipv6", "issues", "natType", "peers", "portMapping", "signalingServer", "stunServers", "tcp",
                "tookSeconds", "turnServers", "verdict", "works",
            ]
        )
        #expect(
            full.family == [
                "available", "filtering", "firewalled", "hairpin", "lifetimeAtLeastSeconds", "lifetimeBelowSeconds",
                "localAddress", "mapping", "natType", "portAllocation", "portStep", "publicAddress",
                "roundTripMilliseconds", "unknownBecause",
            ]
        )
    }

    @Test func theJSONSaysWhatTheTextSays() throws {
        let report = Example.report(Example.nat(.symmetric), [Example.working, Example.wrongPassword])
        let document = try object(report)
        #expect(document["natType"] as? String == "Symmetric" && document["works"] as? Bool == true)
        #expect(document["verdict"] as? String == Verdict(report).text)
        #expect(document["tookSeconds"] as? Double == 1.235)
        let ipv4 = try #require(document["ipv4"] as? [String: Any])
        #expect(ipv4["publicAddress"] as? String == "203.0.113.100:41234")
        #expect(ipv4["mapping"] as? String == "address-and-port-dependent")
        #expect(ipv4["roundTripMilliseconds"] as? Double == 1.25)
        let relays = try #require(document["turnServers"] as? [[String: Any]])
        #expect(relays.map { $0["works"] as? Bool } == [true, false])
        #expect(relays.map { $0["reached"] as? Bool } == [true, true])
        #expect(relays[0]["roundTripMilliseconds"] as? Double == 12.34)
        let problem = try #require(relays[1]["problem"] as? [String: Any])
        #expect(problem["code"] as? String == "wrong-credentials")
    }

    @Test func theSignalingServerIsToldWithItsAddressItsTimeAndItsTLS() throws {
        let report = Example.report(Example.nat(.open), [Example.working], signaling: try Example.signaling())
        let line =
            "  ok    wss://turn.example:8443/signal  203.0.113.10:3478  12.3 ms  TLS 1.3, the pinned certificate\n"
        #expect(report.text(plain).contains("Signaling server\n" + line), "\(report.text(plain))")
        #expect(!Verdict(report).text.contains("signaling"))
        let document = try #require(try object(report)["signalingServer"] as? [String: Any])
        #expect(document["address"] as? String == "203.0.113.10:3478" && document["tls"] as? String == "TLSv1.3")
        #expect(document["works"] as? Bool == true && document["reached"] as? Bool == true)
        #expect(document["roundTripMilliseconds"] as? Double == 12.34)
        #expect(try object(Example.report(nil, []))["signalingServer"] is NSNull)
    }

    @Test func aSignalingServerThatIsNotReachedIsToldWithTheMend() throws {
        let problem = Problem(.refused, "nothing listens there", mend: "check the port")
        let signaling = try Example.signaling(problem, isReached: false)
        let report = Example.report(Example.nat(.open), [Example.working], signaling: signaling)
        #expect(
            report.text(plain).contains(
                "  no    wss://turn.example:8443/signal\n        nothing listens there\n        Mend: check the port\n"
            )
        )
        let sentence = "The signaling server is not reached, and without it no peer is found: nothing listens there"
        #expect(Verdict(report).text.contains(sentence), "\(Verdict(report).text)")
        let document = try #require(try object(report)["signalingServer"] as? [String: Any])
        #expect(document["works"] as? Bool == false && document["reached"] as? Bool == false)
        #expect((document["problem"] as? [String: Any])?["code"] as? String == "connection-refused")
    }

    @Test func theSamePasswordIsNotBlamedTwice() throws {
        let problem = Problem(SignalingFailure(.wrongCredentials, "it does not know them", mend: ""))
        #expect(problem.mend?.contains("turnpike user passwd NAME") == true)
        let report = Example.report(
            Example.nat(.open),
            [Example.wrongPassword],
            signaling: try Example.signaling(problem)
        )
        let text = Verdict(report).text
        #expect(
            text.contains("The signaling server does not accept them either") && !text.contains("passwd"),
            "\(text)"
        )
        #expect(report.text(plain).contains("  part  wss://turn.example:8443/signal"))
    }

    @Test func itWorksWhereAnythingHasAnswered() {
        #expect(Example.report(Example.nat(.symmetric), []).works)
        #expect(Example.report(Example.nat(.blocked), [Example.working]).works)
        #expect(!Example.report(Example.nat(.blocked), [Example.wrongPassword]).works)
    }

    private func object(_ report: NetworkReport) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(report.json().utf8)) as? [String: Any])
    }

    private func keys(_ report: NetworkReport) throws -> (top: [String], family: [String]) {
        let document = try object(report)
        let family = try #require(document["ipv4"] as? [String: Any])
        return (document.keys.sorted(), family.keys.sorted())
    }
}

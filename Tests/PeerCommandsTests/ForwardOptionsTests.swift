import Testing

@testable import PeerCommands
@testable import TurnpikeClient

@Suite struct ForwardOptionsTests {
    @Test(arguments: [
        ("127.0.0.1:8080", "127.0.0.1", 8080), ("8080", "127.0.0.1", 8080), ("[::1]:80", "::1", 80),
        ("[0:0::1]:80", "::1", 80), ("0.0.0.0:0", "0.0.0.0", 0), ("localhost:81", "127.0.0.1", 81),
    ])
    func placesAreRead(_ text: String, _ address: String, _ port: UInt16) {
        let place = ForwardPlace(text)
        #expect(place?.address == address && place?.port == port)
    }

    @Test(arguments: [
        "", ":", "x", "65536", "-1", "+80", "::1:80", "[::1]", "[::1]80", "[::1:80", "example.org:80", "1.2.3:80",
        "127.0.0.1:", ":80", "127.0.0.1:80:", "[127.0.0.1]:80", "1.2.3.4.5:80", "127.0.0.1:８0",
    ])
    func whatIsNoPlaceIsRefused(_ text: String) { #expect(ForwardPlace(text) == nil) }

    @Test(arguments: [
        ("alice:80", "alice", "localhost:80"), ("alice/desk:22", "alice/desk", "localhost:22"),
        ("alice/desk:10.0.0.5:80", "alice/desk", "10.0.0.5:80"), ("alice:Example.Org:443", "alice", "example.org:443"),
        ("alice/desk:[2001:DB8:0::1]:80", "alice/desk", "[2001:db8::1]:80"),
        ("a:b/c:localhost:80", "a:b/c", "localhost:80"), ("al[ice]:80", "al[ice]", "localhost:80"),
    ])
    func routesAreRead(_ text: String, _ peer: String, _ target: String) {
        let route = ForwardRoute(text)
        #expect(route?.peer == peer && route?.target.description == target)
    }

    @Test(arguments: [
        "", "alice", "alice:", ":80", "alice:0", "alice:65536", "alice::80", "alice:[::1:80", "[::1]:80",
        ":10.0.0.5:80", "alice:a b:80", "alice:[10.0.0.5]:80",
    ])
    func whatIsNoRouteIsRefused(_ text: String) { #expect(ForwardRoute(text) == nil) }

    @Test func whatIsNamedIsAllThatIsAllowed() throws {
        #expect(try ForwardPolicy(words: []) == ForwardPolicy())
        let ports = try ForwardPolicy(words: ["80,443", "10.0.0.5:81"])
        #expect(ports.ports == [80, 443] && ports.targets.map(\.description) == ["10.0.0.5:81"])
        #expect(!ports.allowsLoopback && !ports.isOwnUserOnly)
        let user = try ForwardPolicy(words: ["own-user"])
        #expect(user.allowsLoopback && user.isOwnUserOnly)
        let both = try ForwardPolicy(words: ["own-user", "80"])
        #expect(!both.allowsLoopback && both.isOwnUserOnly && both.ports == [80])
        #expect(try ForwardPolicy(words: ["none"]).allowsNothing)
        #expect(try ForwardPolicy(words: ["loopback,10.0.0.5:80"]).allowsLoopback)
    }

    @Test(arguments: ["", "80,", "0", "none,80", "all", "65536", "10.0.0.5", "own-user,none"])
    func rulesThatMakeNoSenseAreUsageErrors(_ word: String) {
        let error = #expect(throws: CommandError.self) { try ForwardPolicy(words: [word]) }
        #expect(error?.status == ExitStatus.usage && error?.lines.count == 1)
    }

    @Test func theWarningSaysWhoReachesWhat() throws {
        #expect(ForwardPolicy().warning.hasPrefix("forwards ANY peer of the same server to EVERY port of 127.0.0.1"))
        #expect(ForwardPolicy().warning.contains("--forward none"))
        #expect(
            try ForwardPolicy(words: ["own-user,80,10.0.0.5:22"]).warning
                == "forwards peers of its own user to port 80 of 127.0.0.1 and [::1] here, and to 10.0.0.5:22"
        )
        #expect(try ForwardPolicy(words: ["none"]).warning == "forwards nothing (--forward none)")
    }

    @Test func forwardWantsOnePlaceForEachRoute() async {
        let two = ["--listen", "80", "--listen", "81", "--to", "a:1"]
        for arguments in [[], ["--listen", "80"], ["--to", "a:80"], two] {
            let outcome = await run(["forward"] + arguments)
            #expect(outcome.status == 64 && outcome.messages.contains("one --to for each --listen"))
        }
        let outcome = await run(["forward", "--listen", "8080", "--to", "alice/desk:80"])
        #expect(outcome.status == 78 && outcome.messages.contains("set SIGNALING_SERVER"), "\(outcome.messages)")
    }
}

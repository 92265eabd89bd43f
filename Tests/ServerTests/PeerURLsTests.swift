import Foundation
import OpenSSLCrypto
import Server
import Settings
import Testing

@Suite struct PeerURLsTests {
    private let loopback = HostAddress(v4: 0x7F00_0001)
    private let lan = HostAddress(v4: 0x0A00_0005)
    private let wan = HostAddress(v4: 0xCB00_7105)

    @Test func firstInterfaceOtherThanLoopbackStandsForTheUnspecifiedAddress() throws {
        let urls = try #require(PeerURLs(settings: Settings(), interfaces: [loopback, wan, lan]))
        #expect(urls.stun == ["stun:203.0.113.5:3478"])
        #expect(urls.turn == ["turn:203.0.113.5:3478?transport=udp", "turn:203.0.113.5:3478?transport=tcp"])
        #expect(urls.turns == ["turns:203.0.113.5:5349?transport=tcp", "turns:203.0.113.5:5349?transport=udp"])
        #expect(!urls.isPrivate)
        #expect(PeerURLs(settings: Settings(), interfaces: [loopback, lan])?.isPrivate == true)
    }

    @Test func machineWithoutANetworkIsReachedOnLoopback() {
        #expect(PeerURLs(settings: Settings(), interfaces: [loopback])?.address.host == loopback)
        #expect(PeerURLs(settings: Settings(), interfaces: []) == nil)
    }

    @Test func externalAddressComesFirst() throws {
        var settings = Settings()
        settings.externalAddress = .addresses([wan])
        #expect(PeerURLs(settings: settings, interfaces: [loopback, lan])?.address.host == wan)
        #expect(PeerURLs(settings: settings, interfaces: [])?.address.host == wan)
        settings.externalAddress = .pairs([Settings.AddressPair(publicAddress: wan, privateAddress: lan)])
        #expect(PeerURLs(settings: settings, interfaces: [loopback, lan])?.address.host == wan)
        #expect(PeerURLs(settings: settings, interfaces: [loopback])?.address.host == loopback)
    }

    @Test func listenerOnOneAddressIsNamedWithItsPort() throws {
        var settings = Settings()
        settings.listen.udp = [SocketAddress(host: loopback, port: 1), SocketAddress(host: wan, port: 3479)]
        settings.listen.dtls = [SocketAddress(host: loopback, port: 5349)]
        settings.listen.tls = []
        let urls = try #require(PeerURLs(settings: settings, interfaces: [lan]))
        #expect(urls.turn == ["turn:203.0.113.5:3479?transport=udp"] && urls.turns.isEmpty)
        settings.listen.dtls.append(SocketAddress(host: wan, port: 443))
        settings.listen.tls = []
        #expect(PeerURLs(settings: settings, interfaces: [lan])?.turns == ["turns:203.0.113.5:443?transport=udp"])
    }

    /// A browser verifies the name, or the address, that the URL has.
    @Test func turnsHasTheFirstNameOfTheOperatorsCertificateWhereItLacksTheAddress() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "turnpike-urls-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func turns(hosts: [String], addresses: [String]) throws -> [String]? {
            let made = try SelfSignedCertificate.make(hosts: hosts, addresses: addresses)
            let path = folder.appending(path: "certificate.pem").path
            try made.certificatePEM.write(toFile: path, atomically: true, encoding: .utf8)
            var settings = Settings()
            settings.listen.tls = [SocketAddress(host: wan, port: 443)]
            settings.tls.certificate = path
            settings.tls.privateKey = folder.appending(path: "key.pem").path
            return PeerURLs(settings: settings, interfaces: [wan])?.turns
        }
        let named = ["turns:turn.example:443?transport=tcp", "turns:turn.example:5349?transport=udp"]
        let numbered = ["turns:203.0.113.5:443?transport=tcp", "turns:203.0.113.5:5349?transport=udp"]
        #expect(try turns(hosts: ["*.example", "turn.example", "b.example"], addresses: []) == named)
        #expect(try turns(hosts: ["turn.example"], addresses: ["203.0.113.6"]) == named)
        #expect(try turns(hosts: ["turn.example"], addresses: ["203.0.113.5"]) == numbered)
        #expect(try turns(hosts: ["*.example"], addresses: []) == numbered)
    }

    @Test func ipv6IsWrittenInBrackets() throws {
        var settings = Settings()
        let v6 = try #require(HostAddress("2001:db8::5"))
        let linkLocal = try #require(HostAddress("fe80::1"))
        settings.listen.udp = [SocketAddress(host: .unspecifiedIPv6, port: 3478)]
        #expect(PeerURLs(settings: settings, interfaces: [lan, linkLocal, v6])?.stun == ["stun:[2001:db8::5]:3478"])
    }

    @Test func portThatTheKernelWillChooseIsNotNamed() {
        var settings = Settings()
        settings.listen.udp = [SocketAddress(host: wan, port: 0)]
        #expect(PeerURLs(settings: settings, interfaces: [lan]) == nil)
    }

    @Test func privateRangesAreKnown() throws {
        let cases = [
            ("10.1.2.3", true), ("172.16.0.1", true), ("172.31.255.1", true), ("172.32.0.1", false),
            ("192.168.9.9", true), ("100.64.0.1", true), ("100.128.0.1", false), ("8.8.8.8", false),
            ("fd00::1", true), ("fc00::1", true), ("2001:db8::1", false), ("::1", true),
        ]
        for (text, expected) in cases {
            var settings = Settings()
            settings.listen.udp = [SocketAddress(host: try #require(HostAddress(text)), port: 3478)]
            #expect(PeerURLs(settings: settings, interfaces: [])?.isPrivate == expected, "\(text)")
        }
    }

    @Test func kernelNamesLoopbackAmongTheInterfaces() {
        #expect(InterfaceAddresses.current().contains(loopback))
    }

    @Test func theOperatorsNameStandsInEveryURL() throws {
        var settings = Settings()
        settings.hostName = "turn.example.org"
        settings.listen.shared = [SocketAddress(host: .unspecifiedIPv4, port: 443)]
        let urls = try #require(PeerURLs(settings: settings, interfaces: [lan]))
        #expect(urls.stun == ["stun:turn.example.org:3478"])
        #expect(urls.turn == ["turn:turn.example.org:3478?transport=udp", "turn:turn.example.org:3478?transport=tcp"])
        #expect(
            urls.turns == [
                "turns:turn.example.org:443?transport=tcp", "turns:turn.example.org:5349?transport=tcp",
                "turns:turn.example.org:5349?transport=udp",
            ]
        )
        #expect(urls.signaling == "wss://turn.example.org:443/signal")
        // What it stands for elsewhere may well be public.
        #expect(urls.hasSecureName && !urls.isPrivate)
    }

    @Test func aSharedPortComesFirstForTLSAndForSignaling() throws {
        var settings = Settings()
        settings.listen.udp = [SocketAddress(host: wan, port: 3478)]
        settings.listen.tls = [SocketAddress(host: wan, port: 5349)]
        settings.listen.dtls = []
        settings.listen.https = [SocketAddress(host: wan, port: 8443)]
        settings.listen.shared = [SocketAddress(host: .unspecifiedIPv4, port: 443)]
        let urls = try #require(PeerURLs(settings: settings, interfaces: [wan]))
        #expect(urls.turns == ["turns:203.0.113.5:443?transport=tcp", "turns:203.0.113.5:5349?transport=tcp"])
        #expect(urls.signaling == "wss://203.0.113.5:443/signal")
        settings.listen.tls = []
        settings.listen.https = []
        settings.signaling.isEnabled = false
        let alone = try #require(PeerURLs(settings: settings, interfaces: [wan]))
        #expect(alone.turns == ["turns:203.0.113.5:443?transport=tcp"] && alone.signaling == nil)
        #expect(alone.needsCertificate)
    }

    @Test func signalingIsNamedWhereItIsServed() throws {
        var settings = Settings()
        settings.listen.udp = [SocketAddress(host: wan, port: 3478)]
        settings.listen.https = [SocketAddress(host: wan, port: 9443)]
        #expect(PeerURLs(settings: settings, interfaces: [])?.signaling == "wss://203.0.113.5:9443/signal")
        // Another address of the machine is no promise for this one.
        settings.listen.https = [SocketAddress(host: lan, port: 9443)]
        #expect(PeerURLs(settings: settings, interfaces: []) != nil)
        #expect(PeerURLs(settings: settings, interfaces: [])?.signaling == nil)
        settings.listen.https = [SocketAddress(host: wan, port: 9443)]
        settings.signaling.isEnabled = false
        #expect(PeerURLs(settings: settings, interfaces: [])?.signaling == nil)
    }
}

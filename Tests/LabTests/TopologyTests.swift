import Lab
import STUN
import Testing

/// Networks behind networks, firewalls, IPv6, and hosts that move.
@Suite struct TopologyTests {
    private func exchange(_ internet: Internet, _ from: UDPSocket, _ to: UDPSocket, _ target: Endpoint? = nil) throws
        -> Endpoint?
    {
        let local = to.local()
        from.send("hello", to: try #require(target ?? local))
        try internet.run(seconds: 1)
        return to.inbox.popLast()?.from
    }

    @Test func aDoubleNATTranslatesTwiceAndBothMustAdmit() throws {
        let internet = Internet(seed: 1) { net in
            net.host("far")
            net.nat("carrier", .carrierGrade) { isp in
                isp.nat("flat", .portRestricted) { $0.host("bob") }
                isp.host("phone")
            }
        }
        let bob = try #require(internet.host("bob").udp(port: 5_000))
        let phone = try #require(internet.host("phone").udp(port: 5_000))
        let far = try #require(internet.host("far").udp(port: 1_000))
        let seen = try #require(try exchange(internet, bob, far))
        #expect(seen.address == internet.router("carrier").publicAddress)
        #expect(internet.router("flat").publicAddress.text == "100.64.0.2")
        #expect(internet.host("bob").address()?.text == "192.168.1.2")
        far.send("back", to: seen)
        try internet.run(seconds: 1)
        #expect(bob.takeTexts() == ["back"])
        // The carrier admits everyone, the flat's router does not.
        let stranger = try #require(internet.host("far").udp(port: 1_001))
        stranger.send("hello", to: seen)
        try internet.run(seconds: 1)
        #expect(bob.inbox.isEmpty && internet.log.dropped(.filtered) == 1)
        // By the carrier's hairpin, once the flat's router has let something out to the phone's outside.
        let phoneSeen = try #require(try exchange(internet, phone, far))
        bob.send("opens", to: phoneSeen)
        phone.send("hairpin", to: seen)
        try internet.run(seconds: 1)
        #expect(bob.takeTexts() == ["hairpin"])
        #expect(phone.inbox.map(\.from) == [seen])
    }

    @Test func twoHomesHaveTheSameAddressesAndDoNotMeetByThem() throws {
        let internet = Internet(seed: 1) { net in
            net.nat("one", .fullCone) { $0.host("a") }
            net.nat("other", .fullCone) { lan in
                lan.host("b")
                lan.host("c")
            }
        }
        #expect(internet.host("a").address() == internet.host("b").address())
        let a = try #require(internet.host("a").udp(port: 1_000))
        let c = try #require(internet.host("c").udp(port: 1_000))
        #expect(try exchange(internet, a, c) == nil)
        let b = try #require(internet.host("b").udp(port: 1_000))
        #expect(try exchange(internet, b, c) == b.local())
    }

    @Test func aFirewallWithoutUDPPassesTCPAndAStricterOnePassesPort443() throws {
        for (rules, passes) in [(Firewall.noUDP, [false, true, true]), (.httpsOnly, [false, false, true])] {
            let internet = Internet(seed: 1) { net in
                net.host("far")
                net.nat("office", .portRestricted, firewall: rules) { $0.host("a") }
            }
            let far = internet.host("far")
            let target = try #require(far.address())
            for port in [3_478, 443] as [UInt16] { far.listen(port) { _ in } }
            let socket = try #require(internet.host("a").udp())
            let listening = try #require(far.udp(port: 3_478))
            let arrived = try exchange(internet, socket, listening) != nil
            let connections = try [3_478, 443].map { port in
                try #require(internet.host("a").connect(to: Endpoint(target, UInt16(port))))
            }
            try internet.run(seconds: 5)
            #expect([arrived] + connections.map { $0.state == .established } == passes)
            #expect(internet.log.dropped(.firewall) > 0)
        }
    }

    @Test func iPv6IsNotTranslatedAndTheFirewallLetsInWhatWasAskedFor() throws {
        let internet = Internet(seed: 1) { net in
            net.host("far", v6: true)
            net.nat("home", .symmetric) { $0.host("a", v6: true) }
            net.nat("open", .symmetric, firewall: .open) { $0.host("b", v6: true) }
        }
        let a = try #require(internet.host("a").udp(port: 5_000))
        let far = try #require(internet.host("far").udp(port: 1_000))
        let local = try #require(a.local(.ipv6))
        far.send("unasked", to: local)
        try internet.run(seconds: 1)
        #expect(a.inbox.isEmpty && internet.log.dropped(.unmapped) == 1)
        #expect(try exchange(internet, a, far, far.local(.ipv6)) == local)
        far.send("asked", to: local)
        try internet.run(seconds: 1)
        #expect(a.takeTexts() == ["asked"])
        let b = try #require(internet.host("b").udp(port: 5_000))
        far.send("unasked", to: try #require(b.local(.ipv6)))
        try internet.run(seconds: 1)
        #expect(b.takeTexts() == ["unasked"])
    }

    @Test func twoBehindFirewallsPunchByIPv6() throws {
        let internet = Internet(seed: 1) { net in
            net.nat("carrier", .symmetric, firewall: .open) { isp in
                isp.nat("one", .symmetric) { $0.host("a", v6: true) }
            }
            net.nat("other", .symmetric) { $0.host("b", v6: true) }
        }
        let a = try #require(internet.host("a").udp(port: 5_000))
        let b = try #require(internet.host("b").udp(port: 5_000))
        let (endA, endB) = (try #require(a.local(.ipv6)), try #require(b.local(.ipv6)))
        a.send("first", to: endB)
        try internet.run(seconds: 1)
        b.send("second", to: endA)
        a.send("third", to: endB)
        try internet.run(seconds: 1)
        #expect(a.takeTexts() == ["second"] && b.takeTexts() == ["third"])
    }

    @Test func aHostThatMovesIsReachedWhereItIs() throws {
        let internet = Internet(seed: 1) { net in
            net.host("far")
            net.nat("home", .portRestricted) { $0.host("a") }
            net.nat("mobile", .symmetric) { $0.host("other") }
        }
        let host = internet.host("a")
        let socket = try #require(host.udp(port: 5_000))
        let far = try #require(internet.host("far").udp(port: 1_000))
        #expect(try exchange(internet, socket, far)?.address == internet.router("home").publicAddress)
        host.attach(to: internet.router("mobile").inside, [IPAddress("192.168.1.77")])
        host.detach(host.interfaces[0])
        #expect(try exchange(internet, socket, far)?.address == internet.router("mobile").publicAddress)
    }

    @Test func whatIsOnTheCableOfAnUnpluggedHostIsLost() throws {
        let internet = Internet(seed: 1) { net in
            net.host("far")
            net.host("a")
        }
        let (host, far) = (internet.host("a"), internet.host("far"))
        let (one, other) = (try #require(host.udp(port: 1)), try #require(far.udp(port: 1)))
        let (endOne, endOther) = (try #require(one.local()), try #require(other.local()))
        one.send("out", to: endOther)
        other.send("in", to: endOne)
        try internet.run(seconds: 0.015)
        one.send("out", to: endOther)
        host.detach(host.interfaces[0])
        #expect(!one.send("out", to: endOther))
        try internet.run(seconds: 1)
        #expect(one.inbox.isEmpty && other.inbox.count == 1)
        #expect(internet.log.dropped(.linkDown) == 2 && internet.log.isConserved)
    }

    @Test func aHostIsReachedByItsSecondInterfaceWhenTheFirstIsCut() throws {
        let internet = Internet(seed: 1) { net in
            net.host("far")
            net.nat("home", .portRestricted) { $0.host("a") }
            net.nat("mobile", .symmetric)
        }
        let host = internet.host("a")
        host.attach(to: internet.router("mobile").inside, [IPAddress("192.168.1.77")])
        let socket = try #require(host.udp(port: 5_000))
        let far = try #require(internet.host("far").udp(port: 1_000))
        host.link.cut()
        #expect(try exchange(internet, socket, far)?.address == internet.router("mobile").publicAddress)
        host.link.restore()
        #expect(try exchange(internet, socket, far)?.address == internet.router("home").publicAddress)
    }

    @Test func aHostReachesItself() throws {
        let internet = Internet(seed: 1) { $0.host("a") }
        let host = internet.host("a")
        let (one, two) = (try #require(host.udp()), try #require(host.udp()))
        #expect(try exchange(internet, one, two) == one.local())
        #expect(host.udp(port: one.port) == nil, "a port is given once")
        one.close()
        #expect(host.udp(port: one.port) != nil)
    }
}

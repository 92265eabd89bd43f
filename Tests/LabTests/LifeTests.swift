import Lab
import STUN
import Testing

@Suite struct LifeTests {
    /// A hundred seeds are a hundred internets.
    @Test func anInternetThatIsDoneWithIsFreed() throws {
        weak var gone: Internet?
        weak var host: Host?
        do {
            let internet = Internet(seed: 1) { net in
                net.relay("turn", users: ["alice": "wonderland"], v6: true)
                net.rendezvous("signaling", users: ["alice": "wonderland"])
                net.nat("carrier", .carrierGrade) { isp in isp.nat("flat", .symmetric) { $0.host("a", v6: true) } }
            }
            (gone, host) = (internet, internet.host("a"))
            let client = try HandClient(
                internet.host("a"),
                internet.relay("turn"),
                "alice",
                "wonderland",
                overTCP: true
            )
            try client.allocate()
            let signaling = SignalingClient(internet.host("a"), to: internet.rendezvous("signaling").endpoint())
            signaling?.send(#"{"type":"hello","username":"alice","password":"wonderland"}"#)
            try internet.run(seconds: 10)
            #expect(signaling?.isOpen == true)
        }
        #expect(gone == nil && host == nil)
    }

    @Test func soAreItsPeers() throws {
        weak var gone: Internet?
        weak var peer: LabPeer?
        do {
            let meeting = Meeting(.portRestricted, .symmetric, seed: 1)
            (gone, peer) = (meeting.internet, meeting.alice)
            try meeting.begin()
            try meeting.internet.run(seconds: 5)
            #expect(meeting.isRelayed)
        }
        #expect(gone == nil && peer == nil)
    }
}

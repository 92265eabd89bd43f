import Testing

@testable import Gateway

struct LimitTests {
    @Test func aBucketGivesItsBurstAndThenItsRate() {
        var table = BucketTable(capacity: 10, burst: 3, perMinute: 60)
        for _ in 0..<3 { #expect(table.take(1, at: 1_000) == nil) }
        let wait = table.take(1, at: 1_000)
        #expect(wait == 1_001 || wait == 1_000)
        #expect(table.take(2, at: 1_000) == nil, "others have their own")
        #expect(table.take(1, at: 1_001_001_000) == nil)
        #expect(table.take(1, at: 1_001_001_000) != nil)
    }

    @Test func whatFailsByTheHundredAtOnceAllCounts() throws {
        let throttle = LoginThrottle()
        let source = ClientSource(network: 5, address: "192.0.2.5", isLocal: false, isLoopback: false)
        // All of them were let through while there were tokens left.
        for _ in 0..<60 { throttle.failed(source, at: 0) }
        let second: UInt64 = 1_000_000_000
        let wait = try #require(throttle.wait(source, at: 0))
        #expect(wait > 240_000, "forty too many, of which ten a minute are let off")
        #expect(throttle.wait(source, at: 239 * second) != nil)
        #expect(throttle.wait(source, at: 247 * second) == nil)
        for _ in 0..<100_000 { throttle.failed(source, at: 247 * second) }
        #expect(throttle.wait(source, at: 247 * second + 607 * second) == nil, "it ends")
    }

    @Test func aTableKeepsThoseWhoOweMost() {
        var table = BucketTable(capacity: 4, burst: 2, perMinute: 60)
        _ = table.take(0, at: 0)
        _ = table.take(0, at: 0)
        for key in 1..<50 { _ = table.take(UInt64(key), at: 0) }
        #expect(table.take(0, at: 0) != nil, "who had used up his bucket is not forgotten for those who had not")
    }

    @Test func connectionsOfASourceAndHandshakesAreCounted() {
        let tally = ConnectionTally(perSourceMax: 2)
        let source = ClientSource(network: 5, address: "192.0.2.5", isLocal: false, isLoopback: false)
        let most = 2 + GatewayLimits.connectionsBesides
        for _ in 0..<most { #expect(tally.admit(source, withHandshake: false)) }
        #expect(!tally.admit(source, withHandshake: false))
        tally.release(source)
        #expect(tally.admit(source, withHandshake: true))
        #expect(tally.counts == (most, 1, 1))
        tally.handshakeEnded()
        #expect(tally.counts.handshakes == 0)
    }

    @Test(
        arguments: [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"), (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] as [(Int64, String)]
    )
    func datesAreThoseOfRFC9110(_ seconds: Int64, text: String) {
        #expect(HTTPDate.text(seconds) == text)
    }

    @Test func basicCredentialsMayHaveATimeLimitedName() {
        func login(_ value: String) -> String? {
            switch Authenticator.login(value) {
            case .password(let username, let password): "\(username)|\(password)"
            case .token(let token): "token \(token)"
            default: nil
            }
        }
        #expect(login("Basic YWxpY2U6cGFzczp3b3Jk") == "alice|pass:word")
        #expect(login("basic MTc5MDAwMDAwMDphbGljZTpwdw==") == "1790000000:alice|pw")
        #expect(login("Basic MTIzNDU6c2VjcmV0") == "12345|secret")
        // A colon and a combining accent: one character, and still a colon.
        #expect(login("Basic YWxpY2U6zIFw") == "alice|\u{301}p")
        #expect(login("Bearer tpk_x") == "token tpk_x")
        for wrong in ["", "Basic", "Basic !", "Basic YWxpY2U=", "Digest x", "Bearer "] { #expect(login(wrong) == nil) }
    }
}

import Foundation
import OpenSSLCrypto
import STUN
import TURN
import Testing

/// AU-17 and AU-18: credentials that anyone with a shared secret can mint.
@Suite struct TimeLimitedCredentialTests {
    private let secret = Array("north wind".utf8)
    private let now: UInt64 = 1_800_000_000

    private func lab(_ secrets: [[UInt8]]? = nil) throws -> Lab {
        try Lab { $0.sharedSecrets = secrets ?? [secret] }
    }

    private func client(_ lab: Lab, _ username: String, secret: [UInt8]? = nil, port: UInt16 = 40_000) -> Client {
        let client = lab.client(username, at: Endpoint("198.51.100.7", port))
        // Foundation's base64, so that the engine's own is judged by another.
        client.password = Data(HMAC.sha1(key: secret ?? self.secret, message: Array(username.utf8)))
            .base64EncodedString()
        return client
    }

    @Test(arguments: [Client.Mode.legacy, .sha256, .sha256OverMD5])
    func aMintedCredentialServesAWholeExchange(_ mode: Client.Mode) throws {
        let client = client(try lab(), "\(now + 3_600):carol")
        client.mode = mode
        #expect(client.allocate()?.isSuccess == true)
        #expect(client.permit([Endpoint("8.8.8.8", 1)])?.isSuccess == true)
        #expect(client.lab.engine.activeUsers() == ["carol"])
        #expect(client.refresh(0)?.isSuccess == true)
    }

    @Test func au17_noOddUsernameIsAcceptedOrTraps() throws {
        let lab = try lab()
        let refused = [
            "\(now):carol", "\(now - 1):carol", "0:carol", "\(now + 86_401):carol", "abc:u", ":u", "123", "-1:u",
            "+1:u", " 1:u",
            "\(now + 60) :u", "\(now + 60):", "0x\(now + 60):u", "٣:u", "9223372036854775807:u",
            "9223372036854775808:u",
            "18446744073709551615:u", "18446744073709551616:u", "1000000000000000000000000000000:u", ":", "::",
            "\(now + 60)\0:u", "1.8e9:u",
        ]
        for (index, name) in refused.enumerated() {
            #expect(client(lab, name, port: 5_000 + UInt16(index)).allocate()?.error == 401, "\(name)")
        }
        #expect(lab.engine.allocationCount == 0)
        for (index, name) in [
            "\(now + 1):u", "\(now + 86_400):u", "0\(now + 60):u", "\(now + 60):a:b", "\(now + 60):\u{301}",
        ].enumerated() {
            #expect(client(lab, name, port: 6_000 + UInt16(index)).allocate()?.isSuccess == true, "\(name)")
        }
    }

    @Test func au18_bothSecretsAreGoodDuringARotationAndTheOldOneIsNotAfterwards() throws {
        let new = Array("south wind".utf8)
        let lab = try lab([new, secret])
        let name = "\(now + 3_600):carol"
        #expect(client(lab, name, secret: secret, port: 1_024).allocate()?.isSuccess == true)
        #expect(client(lab, name, secret: new, port: 1_025).allocate()?.isSuccess == true)
        #expect(client(lab, name, secret: Array("west wind".utf8), port: 1_026).allocate()?.error == 401)
        var configuration = lab.engine.configuration
        configuration.sharedSecrets = [new]
        lab.engine.reconfigure(configuration, at: lab.moment)
        #expect(client(lab, name, secret: secret, port: 1_027).allocate()?.error == 401)
        #expect(client(lab, name, secret: new, port: 1_028).allocate()?.isSuccess == true)
    }

    @Test func withoutASharedSecretNoneIsAccepted() throws {
        let lab = try lab([])
        #expect(client(lab, "\(now + 60):carol").allocate()?.error == 401)
        #expect(client(lab, "\(now + 60):carol", secret: [], port: 9_999).allocate()?.error == 401)
    }

    @Test func aStoredUsersLimitsHoldForHisMintedCredentialsToo() throws {
        let lab = try lab()
        lab.add(user: "carol", password: "x", maximumAllocations: 1)
        #expect(client(lab, "\(now + 60):carol", port: 1_024).allocate()?.isSuccess == true)
        #expect(client(lab, "\(now + 61):carol", port: 1_025).allocate()?.error == 486)
        lab.add(user: "dave", password: "x", isEnabled: false)
        #expect(client(lab, "\(now + 60):dave", port: 1_026).allocate()?.error == 401)
        lab.add(user: "erin", password: "x", expiresAtSeconds: now)
        #expect(client(lab, "\(now + 60):erin", port: 1_027).allocate()?.error == 401)
    }

    @Test func aQuotaCountsTheUserBehindEveryExpiry() throws {
        let lab = try lab()
        let outcomes = (UInt16(0)..<12).map { index -> UInt16? in
            let expiry = now + 60 + UInt64(index)
            return client(lab, "\(expiry):carol", port: 2_000 + index).allocate()?.error
        }
        #expect(outcomes.prefix(10).allSatisfy { $0 == nil })
        #expect(outcomes.suffix(2) == [486, 486])
    }

    @Test func anAllocationEndsWithItsCredentialAndAMinuteOfGrace() throws {
        let lab = try lab()
        let client = client(lab, "\(now + 100):carol")
        #expect(client.allocate(lifetimeSeconds: 3_600)?.lifetimeSeconds == 160)
        lab.advance(seconds: 90)
        #expect(client.refresh(3_600)?.lifetimeSeconds == 70)
        lab.advance(seconds: 20)
        #expect(client.refresh(3_600)?.error == 401)
        lab.advance(seconds: 49)
        #expect(lab.engine.allocationCount == 1)
        lab.advance(seconds: 2)
        #expect(lab.engine.allocationCount == 0)
        #expect(lab.relays.ended.map(\.end) == [.expired])
    }

    @Test func aNewCredentialOfTheSameUserProlongsTheAllocation() throws {
        let lab = try lab()
        let first = client(lab, "\(now + 100):carol")
        _ = first.allocate()
        #expect(client(lab, "\(now + 7_200):carol").refresh(3_600)?.lifetimeSeconds == 3_600)
        #expect(client(lab, "\(now + 7_200):dave").refresh(3_600)?.error == 441)
    }

    @Test func aStoredUsersFarExpiryIsNoExpiryAtOnce() throws {
        let lab = try lab()
        for (index, expiry) in ([.max, .max - 60, 1 << 62] as [UInt64]).enumerated() {
            lab.add(user: "user\(index)", password: "x", expiresAtSeconds: expiry)
            let client = lab.client("user\(index)", at: Endpoint("198.51.100.7", 3_000 + UInt16(index)))
            #expect(client.allocate()?.lifetimeSeconds == 600)
        }
    }
}

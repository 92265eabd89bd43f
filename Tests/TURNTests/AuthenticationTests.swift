import OpenSSLCrypto
import STUN
import TURN
import TestSupport
import Testing

/// AU: who may ask, and what the others hear.
@Suite struct AuthenticationTests {
    @Test func au01_aBareAllocateIsChallenged() throws {
        let client = try Lab().client()
        let answer = try #require(client.challenge())
        #expect(answer.error == 401)
        #expect(answer.value(.errorCode) == [0, 0, 4, 1])
        #expect(Set(answer.types) == [.errorCode, .nonce, .realm, .passwordAlgorithms])
        #expect(answer.value(.realm) == Array(Lab.realm.utf8))
        #expect(answer.value(.passwordAlgorithms) == [0, 2, 0, 0, 0, 1, 0, 0])
        // RFC 8489 section 9.2 and 18.1: the cookie, and both feature bits, counted from the right, as base64 of 00 00
        // 03.
        #expect(answer.value(.nonce)?.prefix(13) == ArraySlice(Array("obMatJos2AAAD".utf8)))
    }

    @Test func au02_aSignedRequestThatLacksAPartIs400Unsigned() throws {
        let client = try Lab().client()
        client.challenge()
        for part in 0..<3 {
            var signing = client.signing()
            switch part {
            case 0: signing.username = nil
            case 1: signing.realm = nil
            default: signing.nonce = nil
            }
            let answer = try #require(client.send(client.request(.allocate, signing: signing)).answer)
            #expect(answer.error == 400)
            #expect(answer.types == [.errorCode])
        }
    }

    @Test func au03_anUnknownUserAndAWrongPasswordHearTheSame() throws {
        let lab = try Lab()
        var answers: [Answer] = []
        for name in ["alice", "mallory", "disabled", "expired", "1:x", ":", "", "9999999999:nobody"] {
            lab.add(user: "disabled", password: "right", isEnabled: false)
            lab.add(user: "expired", password: "right", expiresAtSeconds: lab.moment.wallSeconds)
            let client = lab.client(name)
            client.password = name == "alice" ? "wrong" : "right"
            answers.append(try #require(client.allocate(), "\(name)"))
        }
        for answer in answers {
            #expect(answer.error == 401)
            #expect(answer.types == answers[0].types)
            #expect(answer.bytes.count == answers[0].bytes.count)
        }
        #expect(lab.engine.counters.authenticationFailures == 8)
        #expect(lab.engine.allocationCount == 0)
    }

    @Test func au04_aMacOffByOneBitIsChallenged() throws {
        let client = try Lab().client()
        client.challenge()
        let good = client.request(.allocate, signing: client.signing()) {
            $0.append(.requestedTransport, 0x1100_0000 as UInt32)
        }
        for bit in 0..<160 {
            var bytes = good
            bytes[bytes.count - 20 + bit / 8] ^= 1 << (bit % 8)
            let answer = try #require(client.send(bytes).answer)
            #expect(answer.error == 401)
            #expect(answer.value(.nonce) != nil && answer.value(.realm) != nil)
        }
        #expect(client.send(good).answer?.isSuccess == true)
    }

    @Test func au09_aChangedListOrHalfAPairIs400() throws {
        let client = try Lab().client()
        client.mode = .sha256
        client.challenge()
        func answer(_ change: (inout Client.Signing) -> Void) -> UInt16? {
            var signing = client.signing()
            change(&signing)
            return client.send(client.request(.allocate, signing: signing)).answer?.error
        }
        #expect(answer { $0.algorithms = [0, 1, 0, 0] } == 400)
        #expect(answer { $0.algorithms = [0, 1, 0, 0, 0, 2, 0, 0] } == 400)
        #expect(answer { $0.algorithms = [] } == 400)
        #expect(answer { $0.algorithms = nil } == 400)
        #expect(answer { $0.algorithm = nil } == 400)
        #expect(answer { $0.algorithm = [0, 3, 0, 0] } == 400)
        #expect(answer { $0.algorithm = [0, 0, 0, 0] } == 400)
        #expect(answer { $0.algorithm = [0, 2, 0, 4, 1, 2, 3, 4] } == 400)
        #expect(answer { $0.algorithm = [0, 2] } == 400)
        #expect(answer { $0.macs = [] } == 401)
    }

    @Test(arguments: [false, true])
    func au11_aBrowserIsServedUnlessSha256IsRequired(_ requires: Bool) throws {
        let client = try Lab { $0.requiresSHA256 = requires }.client()
        let answer = try #require(client.allocate())
        #expect(answer.error == (requires ? 401 : nil))
        if !requires { #expect(client.isSigned(answer, .sha1, .md5)) }
    }

    @Test func requireSha256AcceptsNothingWeaker() throws {
        let lab = try Lab { $0.requiresSHA256 = true }
        let client = lab.client()
        client.mode = .sha256
        #expect(client.challenge()?.value(.passwordAlgorithms) == [0, 2, 0, 0])
        func answer(_ change: (inout Client.Signing) -> Void) -> UInt16? {
            var signing = client.signing()
            change(&signing)
            return client.send(client.request(.allocate, signing: signing)).answer?.error
        }
        #expect(answer { $0.macs = [(.sha1, client.key(.sha256))] } == 401)
        #expect(answer { $0.algorithm = [0, 1, 0, 0] } == 400)
        #expect(answer { ($0.algorithm, $0.algorithms) = (nil, nil) } == 401)
        #expect(client.allocate()?.isSuccess == true)
    }

    @Test(arguments: [Client.Mode.legacy, .sha256, .sha256OverMD5], [false, true])
    func au12_au16_everySchemeServesAWholeExchangeAndSignsItsAnswers(_ mode: Client.Mode, _ userhash: Bool) throws {
        let client = try Lab().client()
        client.mode = mode
        client.usesUserhash = userhash
        let peer = Endpoint("8.8.8.8", 4_000)
        let answers = [
            client.allocate(), client.permit([peer]), client.bind(0x4000, peer), client.refresh(700), client.permit([]),
            client.refresh(0),
        ]
        #expect(answers.map { $0?.isSuccess } == [true, true, true, true, false, true])
        for answer in answers.compactMap({ $0 }) {
            #expect(client.isSigned(answer, mode == .legacy ? .sha1 : .sha256, mode == .sha256 ? .sha256 : .md5))
            #expect(answer.types.contains(mode == .legacy ? .messageIntegrity : .messageIntegritySHA256))
            #expect(!answer.types.contains(mode == .legacy ? .messageIntegritySHA256 : .messageIntegrity))
        }
        #expect(client.lab.engine.allocationCount == 0)
    }

    @Test func au12_aWrongUserhashHearsWhatAWrongPasswordHears() throws {
        let lab = try Lab()
        let wrong = lab.client()
        wrong.password = "wrong"
        let reference = try #require(wrong.allocate())
        let client = lab.client()
        client.usesUserhash = true
        client.challenge()
        for change in 0..<3 {
            var signing = client.signing()
            if change == 0 { signing.userhash = Array(repeating: 9, count: 32) }
            if change == 1 { signing.userhash = Array(repeating: 9, count: 31) }
            if change == 2 { signing.userhash = [] }
            let answer = try #require(client.send(client.request(.allocate, signing: signing)).answer)
            #expect(answer.error == (change == 0 ? 401 : 400))
            if change == 0 { #expect(answer.types == reference.types) }
        }
    }

    @Test func au13_aTruncatedSha256MacIsRefused() throws {
        let client = try Lab().client()
        client.mode = .sha256
        client.challenge()
        for length in [0, 4, 16, 20, 28, 33] {
            var signing = client.signing()
            signing.macs = []
            var bytes = client.request(.allocate, signing: signing) {
                $0.append(.requestedTransport, 0x1100_0000 as UInt32)
            }
            let size = bytes.count - 20 + 4 + (length + 3) / 4 * 4
            bytes[2] = UInt8(size >> 8)
            bytes[3] = UInt8(size & 0xFF)
            // The right MAC, cut: RFC 8489 section 14.6 lets an application allow that; TURN does not.
            let mac = (HMAC.sha256(key: client.key(.sha256), message: bytes) + [0]).prefix(length)
            bytes += hex("001c 00") + [UInt8(length)] + mac
            bytes += Array(repeating: 0, count: (4 - length % 4) % 4)
            #expect(client.send(bytes).answer?.error == 401, "\(length) bytes")
        }
        #expect(client.lab.engine.allocationCount == 0)
    }

    @Test func au14_ofTwoMacsSha256Decides() throws {
        let client = try Lab().client()
        client.mode = .sha256
        client.challenge()
        func answer(_ sha1: [UInt8], _ sha256: [UInt8]) -> Answer? {
            var signing = client.signing()
            signing.macs = [(.sha1, sha1), (.sha256, sha256)]
            return client.send(
                client.request(.allocate, signing: signing) { $0.append(.requestedTransport, 0x1100_0000 as UInt32) }
            ).answer
        }
        let good = client.key(.sha256)
        #expect(answer(good, [1])?.error == 401)
        let accepted = try #require(answer([1], good))
        #expect(accepted.isSuccess)
        #expect(client.isSigned(accepted, .sha256, .sha256))
    }

    @Test func au15_anotherUserOnTheSame5TupleIs441() throws {
        let lab = try Lab()
        let alice = lab.client("alice")
        let relayed = try #require(alice.allocate()?.endpoints(.xorRelayedAddress).first)
        let bob = lab.client("bob")
        let peer = Endpoint("8.8.8.8", 4_000)
        #expect(bob.refresh(0)?.error == 441)
        #expect(bob.permit([peer])?.error == 441)
        #expect(bob.bind(0x4000, peer)?.error == 441)
        #expect(bob.allocate()?.error == 437)
        #expect(lab.relays.isLiveRelay(relayed))
        #expect(alice.indicate(peer).drop == .noPermission)
        #expect(alice.channelData(0x4000).drop == .unboundChannel)
    }

    @Test func au19_aRevokedUserLosesHisAllocationsAndAccess() throws {
        let lab = try Lab()
        let alice = lab.client("alice")
        let bob = lab.client("bob", at: Endpoint("198.51.100.8", 1))
        _ = alice.allocate()
        _ = bob.allocate()
        #expect(lab.engine.activeUsers() == ["alice", "bob"])
        lab.add(user: "alice", password: "wonderland", isEnabled: false)
        lab.engine.revoke(user: "alice", at: lab.moment)
        #expect(lab.engine.activeUsers() == ["bob"])
        #expect(lab.relays.ended.map(\.end) == [.revoked])
        #expect(alice.refresh(600)?.error == 401)
        #expect(bob.refresh(600)?.isSuccess == true)
        #expect(lab.shared.quota.held(by: "alice") == 0)
    }

    @Test func au20_wrongPasswordsNeverLockTheOwnerOut() throws {
        let lab = try Lab()
        let mallory = lab.client("alice", at: Endpoint("198.51.100.66", 6_000))
        mallory.password = "guess"
        for _ in 0..<100 { #expect(mallory.allocate()?.error == 401) }
        #expect(lab.client("alice").allocate()?.isSuccess == true)
        // The account store was asked once and not a hundred times.
        #expect(lab.lookups.count == 1)
    }

    @Test func au22_aWrongRealmIsChallengedAndAnOverlongOneIs400() throws {
        let client = try Lab().client()
        client.challenge()
        func answer(_ realm: [UInt8]) -> UInt16? {
            var signing = client.signing()
            signing.realm = realm
            return client.send(client.request(.allocate, signing: signing)).answer?.error
        }
        #expect(answer(Array("example.com".utf8)) == 401)
        #expect(answer([]) == 401)
        #expect(answer(Array(repeating: 0x61, count: 763)) == 401)
        #expect(answer(Array(repeating: 0x61, count: 764)) == 400)
    }

    @Test func au23_theNamesOfOneUserInTwoFormsDoNotDisturbEachOther() throws {
        // A stranger asks for the decomposed form, which the store does not know; the owner of the composed one still
        // gets in.
        let lab = try Lab()
        let composed = "caf\u{E9}"
        lab.add(user: composed, password: "noir")
        let stranger = lab.client("cafe\u{301}", at: Endpoint("198.51.100.66", 6_000))
        stranger.password = "noir"
        #expect(stranger.allocate()?.error == 401)
        #expect(lab.client(composed).allocate()?.isSuccess == true)
    }

    @Test func re14_aSourceThatKeepsFailingCostsABoundedNumberOfMACs() throws {
        let lab = try Lab { $0.unauthenticatedRepliesPerSecond = 10 }
        let owner = lab.client(at: Endpoint("198.51.100.66", 5_000))
        #expect(owner.allocate()?.isSuccess == true)
        let attacker = lab.client(at: Endpoint("198.51.100.66", 6_000))
        attacker.challenge()
        attacker.password = "wrong"
        let neighbour = lab.client(at: Endpoint("198.51.100.66", 7_000))
        neighbour.challenge()
        let other = lab.client(at: Endpoint("198.51.100.67", 6_000))
        other.challenge()
        let lookups = lab.lookups.count
        var drops: [DropReason: UInt64] = [:]
        for _ in 0..<50_000 {
            let outcome = attacker.send(attacker.request(.allocate, signing: attacker.signing()))
            if let reason = outcome.drop { drops[reason, default: 0] += 1 }
        }
        let looked = 10 * Limits.failuresPerReply
        #expect(lab.authenticationFailures == looked)
        #expect(drops[.failureBudget] == 50_000 - looked)
        // Three of the ten replies were the challenges before.
        #expect(drops[.replyBudget] == looked - 7)
        #expect(lab.lookups.count == lookups)
        // Others are served, and whoever holds an allocation there too; a newcomer of that source in the next second.
        #expect(other.allocate()?.isSuccess == true)
        #expect(owner.refresh()?.isSuccess == true)
        #expect(neighbour.allocate() == nil)
        lab.advance(seconds: 1)
        #expect(neighbour.allocate()?.isSuccess == true)
    }

    @Test func au24_anAccessTokenIs420WhateverItsLength() throws {
        let client = try Lab().client()
        for length in [0, 1, 4, 300, 65_000] {
            let answer = try #require(
                client.perform(.allocate) { builder in
                    builder.append(.requestedTransport, 0x1100_0000 as UInt32)
                    builder.append(AttributeType(rawValue: 0x001B), Array(repeating: 0xFF, count: length))
                }
            )
            #expect(answer.error == 420)
            #expect(answer.value(.unknownAttributes) == [0x00, 0x1B])
        }
    }

    @Test func au25_nothingOfAnUnauthenticatedRequestIsRemembered() throws {
        let lab = try Lab()
        let client = lab.client()
        let bytes = client.request(.allocate, signing: nil) { builder in
            builder.append(.realm, Array("elsewhere".utf8))
            builder.append(.lifetime, 3_600 as UInt32)
            builder.append(AttributeType(rawValue: 0x802F), Array("origin".utf8))
            builder.append(.evenPort, [0x80])
        }
        #expect(client.send(bytes).answer?.error == 401)
        let answer = try #require(client.allocate())
        #expect(answer.lifetimeSeconds == 600)
        #expect(answer.value(.reservationToken) == nil)
        #expect(lab.relays.requests.map(\.parity) == [.any])
    }

    @Test func au27_aForeignNonceAsksNoAccountStore() throws {
        let lab = try Lab()
        let client = lab.client()
        client.challenge()
        for _ in 0..<100 {
            var signing = client.signing()
            signing.nonce = SecureRandom.bytes(37)
            #expect(client.send(client.request(.allocate, signing: signing)).answer?.error == 438)
        }
        #expect(lab.lookups.isEmpty)
        #expect(lab.relays.requests.isEmpty)
    }
}

import OpenSSLCrypto
import STUN
import TURN
import Testing

/// AU-05 to AU-08, AU-10, and the clock cases: what a nonce is good for, and how long.
@Suite struct NonceTests {
    private func allocate(_ client: Client, nonce: [UInt8]) -> Answer? {
        var signing = client.signing()
        signing.nonce = nonce
        return client.send(
            client.request(.allocate, signing: signing) { $0.append(.requestedTransport, 0x1100_0000 as UInt32) }
        ).answer
    }

    @Test func au05_anOldNonceIs438AndTheFreshOneInItWorks() throws {
        let lab = try Lab()
        let client = lab.client()
        client.challenge()
        lab.advance(seconds: 600)
        #expect(client.perform(.refresh)?.error == 437)
        lab.advance(seconds: 1)
        let answer = try #require(client.perform(.refresh))
        #expect(answer.error == 438)
        #expect(Set(answer.types) == [.errorCode, .nonce, .realm, .passwordAlgorithms])
        #expect(answer.value(.nonce) != client.nonce)
        client.learn(from: answer)
        #expect(client.allocate()?.isSuccess == true)
    }

    @Test func anOldNonceWithAWrongPasswordIs401() throws {
        // RFC order: a genuine nonce's age is told only to those who know the key.
        let lab = try Lab()
        let client = lab.client()
        client.challenge()
        client.password = "wrong"
        lab.advance(seconds: 601)
        #expect(client.perform(.refresh)?.error == 401)
    }

    @Test func au06_anotherClientsNonceIs438AndLeavesNothing() throws {
        let lab = try Lab()
        let victim = lab.client()
        victim.challenge()
        for other in [Endpoint("198.51.100.8", 40_000), Endpoint("198.51.100.7", 40_001), Endpoint("2600::1", 40_000)] {
            let thief = lab.client(at: other)
            thief.challenge()
            #expect(allocate(thief, nonce: victim.nonce)?.error == 438)
        }
        #expect(lab.engine.allocationCount == 0)
        #expect(allocate(victim, nonce: victim.nonce)?.isSuccess == true)
    }

    @Test func au07_au10_everyCharacterOfANonceCounts() throws {
        let client = try Lab().client()
        client.challenge()
        let good = client.nonce
        for index in good.indices {
            // Flipping the lowest bit keeps a character a character, and clears feature bits where they stand.
            for replacement in [good[index] ^ 1, good[index] ^ 0x20, UInt8(ascii: "A"), 0x00, 0xFF]
            where replacement != good[index] {
                var nonce = good
                nonce[index] = replacement
                #expect(allocate(client, nonce: nonce)?.error == 438, "character \(index)")
            }
        }
        for count in 0..<good.count { #expect(allocate(client, nonce: Array(good.prefix(count)))?.error == 438) }
        #expect(allocate(client, nonce: good + good)?.error == 438)
        #expect(allocate(client, nonce: good + [0x41])?.error == 438)
        #expect(allocate(client, nonce: Array(repeating: 0x41, count: 764))?.error == 400)
        #expect(client.lab.engine.allocationCount == 0)
        #expect(allocate(client, nonce: good)?.isSuccess == true)
    }

    @Test func au07_aNonceFromTheFutureIsGoodForFiveSecondsOfSkew() throws {
        let lab = try Lab()
        let now = lab.moment.wallSeconds
        for (ahead, isGood) in [(0, true), (5, true), (6, false), (3_600, false)] as [(UInt64, Bool)] {
            let client = lab.client(at: Endpoint("198.51.100.9", 1_024 + UInt16(ahead)))
            lab.setWallClock(now + ahead)
            client.challenge()
            lab.setWallClock(now)
            #expect(client.allocate()?.error == (isGood ? nil : 438), "\(ahead) s ahead")
        }
    }

    @Test func au08_aReplayHasNoSecondEffect() throws {
        let lab = try Lab()
        let client = lab.client()
        client.challenge()
        let bytes = client.request(.allocate, signing: client.signing()) {
            $0.append(.requestedTransport, 0x1100_0000 as UInt32)
        }
        let first = try #require(client.send(bytes).answer)
        #expect(client.send(bytes).answer == first)
        // The same bytes from elsewhere.
        let thief = lab.client(at: Endpoint("198.51.100.66", 6_000))
        #expect(thief.send(bytes).answer?.error == 438)
        lab.advance(seconds: 1_300)
        #expect(client.send(bytes).answer?.error == 438)
        #expect(lab.relays.requests.count == 1)
        #expect(lab.engine.allocationCount == 0)
    }

    @Test func nonceKeysRotateWithoutAWaveOf438() throws {
        let lab = try Lab()
        let client = lab.client()
        client.challenge()
        var configuration = lab.engine.configuration
        let old = configuration.nonceKeys.current
        configuration.nonceKeys = NonceKeys(current: Array(repeating: 1, count: 32), previous: old)
        lab.engine.reconfigure(configuration, at: lab.moment)
        #expect(client.allocate()?.isSuccess == true)
        configuration.nonceKeys = NonceKeys(
            current: Array(repeating: 2, count: 32),
            previous: configuration.nonceKeys.current
        )
        lab.engine.reconfigure(configuration, at: lab.moment)
        #expect(client.refresh()?.error == 438)
    }

    @Test func cl01_theWallClockMovesNoLifetime() throws {
        for wall: UInt64 in [1_800_003_600, 1_799_996_400, 2_115_000_000, 0, .max] {
            let lab = try Lab { $0.nonceLifetimeSeconds = 3_600 }
            let client = lab.client()
            _ = client.allocate()
            _ = client.permit([Endpoint("8.8.8.8", 1)])
            lab.setWallClock(wall == .max ? .max - 10_000 : wall)
            lab.advance(seconds: 299)
            #expect(client.indicate(Endpoint("8.8.8.8", 1)).forward != nil)
            lab.advance(seconds: 2)
            #expect(client.indicate(Endpoint("8.8.8.8", 1)).drop == .noPermission)
            lab.advance(seconds: 297)
            #expect(lab.engine.allocationCount == 1)
            lab.advance(seconds: 4)
            #expect(lab.engine.allocationCount == 0)
        }
    }

    @Test(arguments: [3_600, -3_600] as [Int64])
    func cl02_aStepOfTheClockCostsOne438AtMost(_ step: Int64) throws {
        let lab = try Lab()
        let client = lab.client()
        _ = client.allocate()
        lab.setWallClock(UInt64(Int64(lab.moment.wallSeconds) + step))
        let answer = client.refresh()
        #expect(answer?.error == 438)
        client.learn(from: answer)
        #expect(client.refresh()?.isSuccess == true)
    }

    @Test(arguments: [2_147_483_647, 2_147_483_648, 4_102_444_800, 4_294_967_290, 4_294_967_296, 1 << 40] as [UInt64])
    func cl04_noncesWorkAcrossTheEndsOf32Bits(_ wall: UInt64) throws {
        let lab = try Lab()
        lab.setWallClock(wall)
        let client = lab.client()
        client.challenge()
        lab.advance(seconds: 10)
        #expect(client.allocate()?.isSuccess == true)
        lab.advance(seconds: 591)
        #expect(client.refresh()?.error == 438)
        // Years later, on whichever side of the 32-bit sign it falls.
        for years in [1, 30, 67, 69, 100] as [UInt64] {
            lab.setWallClock(wall + years * 31_557_600)
            #expect(client.refresh()?.error == 438, "\(years) years")
        }
    }

    @Test func sp26_aHundredThousandNoncesDoNotRepeatAndTheirMACsAreUniform() throws {
        let lab = try Lab()
        var nonces: Set<[UInt8]> = []
        var counts: [UInt8: Int] = [:]
        let client = lab.client()
        for index in 0..<100_000 as Range<UInt32> {
            client.tuple.client = Endpoint(
                address: IPAddress(v4: 0xC633_6400 + index / 50_000),
                port: UInt16(12_000 + index % 50_000)
            )
            client.challenge()
            nonces.insert(client.nonce)
            // Behind the cookie and the time: eighteen whole characters of the MAC.
            for character in client.nonce.dropFirst(19) { counts[character, default: 0] += 1 }
        }
        #expect(nonces.count == 100_000)
        #expect(counts.count == 64)
        #expect(deviation(Array(counts.values)) < 6)
    }

    @Test func sp26_aHundredThousandTransactionIDsDoNotRepeatAndAreUniform() throws {
        let lab = try Lab()
        var transactions: Set<[UInt8]> = []
        var counts = [Int](repeating: 0, count: 256)
        var header = [UInt8](repeating: 0, count: 36)
        for _ in 0..<100_000 {
            header.withUnsafeMutableBytes { buffer in
                guard let base = buffer.baseAddress else { return }
                lab.engine.writeIndicationHeader(peer: Endpoint("8.8.8.8", 1), length: 0, at: base)
            }
            transactions.insert(Array(header[8..<20]))
            for byte in header[8..<20] { counts[Int(byte)] += 1 }
        }
        #expect(transactions.count == 100_000)
        #expect(deviation(counts) < 6)
        // Every bit of them is set about half the time: 7 standard deviations.
        for bit in 0..<96 {
            let ones = transactions.count { $0[bit / 8] & 1 << (bit % 8) != 0 }
            #expect((48_900...51_100).contains(ones), "bit \(bit) is set \(ones) times")
        }
    }

    /// How far counts are from equal ones: chi squared, in standard deviations of what chance would do.
    private func deviation(_ counts: [Int]) -> Double {
        let expected = Double(counts.reduce(0, +)) / Double(counts.count)
        let chiSquared = counts.reduce(0.0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
        let degrees = Double(counts.count - 1)
        return abs(chiSquared - degrees) / (2 * degrees).squareRoot()
    }
}

import Commands
import Testing

@Suite struct QuantityTests {
    @Test(arguments: [
        (0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (1_549, "1.5 kB"), (99_949, "99.9 kB"), (99_950, "100 kB"),
        (999_499, "999 kB"), (999_500, "1.0 MB"), (UInt64.max, "18.4 EB"),
    ])
    func bytesHaveThreeDigits(_ count: UInt64, _ text: String) {
        #expect(Quantity.bytes(count) == text)
    }

    @Test func ratesAreNeverNonsense() {
        #expect(Quantity.bitsPerSecond(.nan) == "0 bit/s" && Quantity.bitsPerSecond(-1) == "0 bit/s")
        #expect(Quantity.bitsPerSecond(.infinity) == "0 bit/s")
        #expect(Quantity.bitsPerSecond(1e18) == "1000000 Tbit/s")
        #expect(Quantity.perSecond(12_345) == "12.3 k/s")
    }

    @Test(arguments: [
        (0, "0s"), (59, "59s"), (60, "1m"), (725, "12m 5s"), (3_600, "1h"), (3_601, "1h"), (90_061, "1d 1h"),
        (UInt64.max, "213503982334601d 7h"),
    ])
    func durationsHaveTwoUnits(_ seconds: UInt64, _ text: String) {
        #expect(Quantity.duration(seconds: seconds) == text)
    }

    @Test func oneIsNoPlural() {
        #expect(Quantity.count(1, "room") == "1 room" && Quantity.count(0, "room") == "0 rooms")
    }
}

import OpenSSLCrypto
import Testing

@testable import Relay

@Suite struct SharedPortTests {
    @Test func whatALPNSettledOnDecidesBeforeAByteHasCome() {
        for name in TLSContext.turnProtocols {
            #expect(SharedPortUse(applicationProtocol: name, firstByte: nil) == .relay)
        }
        #expect(SharedPortUse(applicationProtocol: "http/1.1", firstByte: nil) == .web)
        // A client that names the one and speaks the other gets what it named.
        #expect(SharedPortUse(applicationProtocol: "http/1.1", firstByte: 0x00) == .web)
        #expect(SharedPortUse(applicationProtocol: "stun.turn", firstByte: UInt8(ascii: "G")) == .relay)
    }

    @Test func withoutALPNNothingIsDecidedBeforeAByteHasCome() {
        #expect(SharedPortUse(applicationProtocol: nil, firstByte: nil) == .unknown)
    }

    @Test func withoutALPNEveryFirstByteIsForOneOfThemOrForNeither() {
        let letters = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".utf8)
        for byte in UInt8.min...UInt8.max {
            let expected: SharedPortUse = byte < 0x40 ? .relay : letters.contains(byte) ? .web : .neither
            #expect(SharedPortUse(applicationProtocol: nil, firstByte: byte) == expected, "\(byte)")
        }
    }
}

import STUN
import TestSupport
import Testing

/// Message types, addresses, ChannelData and the builder.
@Suite struct EncodingTests {
    private let identifier = TransactionID(high: 0x0011_2233_4455_6677, low: 0x8899_AABB)

    @Test func nobodyIsToldTheNumberOfALink() throws {
        let scoped = Endpoint(address: IPAddress(high: 0xFE80_0000_0000_0007, low: 9), port: 4_000)
        let told = Endpoint(address: IPAddress(high: 0xFE80_0000_0000_0000, low: 9), port: 4_000)
        #expect(scoped.address.linkNumber == 7 && scoped.address.withoutLink == told.address)
        let bytes = try #require(
            building(MessageType(.binding, .successResponse), identifier, filledWith: 0) { builder, _ in
                builder.append(.xorMappedAddress, xor: scoped)
                builder.append(.otherAddress, plain: scoped)
            }
        )
        try parsing(bytes) { message in
            let crossed = try #require(message.first(.xorMappedAddress))
            let straight = try #require(message.first(.otherAddress))
            #expect(AddressAttribute.decodeXOR(crossed, identifier) == told)
            #expect(AddressAttribute.decode(straight) == told)
        }
        // What looks like one elsewhere is a part of the address.
        for high in [0xFE81_0000_0000_0007, 0xFE80_0001_0000_0007, 0x2001_0DB8_0000_0007] as [UInt64] {
            let address = IPAddress(high: high, low: 9)
            #expect(address.linkNumber == 0 && address.withoutLink == address)
        }
        #expect(IPAddress(v4: 0x7F00_0001).linkNumber == 0)
    }

    @Test func everyMessageTypeSurvivesTheRoundTrip() throws {
        var seen: Set<MessageType> = []
        for raw in UInt16(0)...0x3FFF {
            let type = try #require(MessageType(rawValue: raw))
            #expect(type.rawValue == raw)
            #expect(MessageType(type.method, type.messageClass) == type)
            seen.insert(type)
        }
        #expect(seen.count == 16_384)
        for raw in UInt16(0x4000)...0xFFFF where MessageType(rawValue: raw) != nil { Issue.record("\(raw) is no type") }
    }

    @Test func messageTypesAreTheOnesTheSpecificationsPrint() {
        #expect(MessageType(.binding, .request).rawValue == 0x0001)
        #expect(MessageType(.binding, .indication).rawValue == 0x0011)
        #expect(MessageType(.binding, .successResponse).rawValue == 0x0101)
        #expect(MessageType(.binding, .errorResponse).rawValue == 0x0111)
        #expect(MessageType(.allocate, .request).rawValue == 0x0003)
        #expect(MessageType(.allocate, .errorResponse).rawValue == 0x0113)
        #expect(MessageType(.send, .indication).rawValue == 0x0016)
        #expect(MessageType(.data, .indication).rawValue == 0x0017)
        #expect(MessageType(.channelBind, .successResponse).rawValue == 0x0109)
        #expect(MessageType(Method(rawValue: 0xFFF), .errorResponse).rawValue == 0x3FFF)
    }

    @Test(arguments: [
        Endpoint(address: IPAddress(v4: 0), port: 0),
        Endpoint(address: IPAddress(v4: .max), port: .max),
        Endpoint(address: IPAddress(v4: 0x2112_A442), port: 0x2112),
        Endpoint(address: IPAddress(v4: 0xC000_0201), port: 32_853),
        Endpoint(address: IPAddress(high: 0, low: 0), port: 1),
        Endpoint(address: IPAddress(high: .max, low: .max), port: .max),
        Endpoint(address: IPAddress(high: 0, low: 0xFFFF_7F00_0001), port: 80),
        Endpoint(address: IPAddress(high: 0x2001_0DB8_0000_0000, low: 1), port: 443),
    ])
    func addressesOfBothFamiliesSurviveTheRoundTrip(_ endpoint: Endpoint) throws {
        let plain = AttributeType.alternateServer
        let bytes = try #require(
            building(MessageType(.binding, .successResponse), identifier, filledWith: 0xEE) { builder, _ in
                builder.append(.xorMappedAddress, xor: endpoint)
                builder.append(plain, plain: endpoint)
            }
        )
        let length = endpoint.address.isIPv4 ? 8 : 20
        #expect(bytes.count == 20 + 2 * (4 + length))
        try parsing(bytes) { message in
            let crossed = try #require(message.first(.xorMappedAddress))
            let straight = try #require(message.first(plain))
            #expect(crossed.count == length)
            #expect(crossed[0] == 0)
            #expect(AddressAttribute.decodeXOR(crossed, identifier) == endpoint)
            #expect(AddressAttribute.decode(straight) == endpoint)
            #expect(Array(straight[2..<4]) == [UInt8(endpoint.port >> 8), UInt8(endpoint.port & 0xFF)])
            // Crossed by hand: the cookie, then the transaction id (RFC 8489 section 14.2).
            let mask = Array(bytes[4..<20])
            for index in 4..<length { #expect(crossed[index] == straight[index] ^ mask[index - 4]) }
        }
    }

    @Test func sp11_anAddressOfTheWrongSizeOrFamilyIsNone() {
        for length in 0...24 {
            for family in UInt8.min ... .max {
                var value = [UInt8](repeating: 0, count: length)
                if length > 1 { value[1] = family }
                let isAddress = family == 1 && length == 8 || family == 2 && length == 20
                let decoded = value.withUnsafeBytes { AddressAttribute.decodeXOR($0, identifier) }
                #expect((decoded != nil) == isAddress, "family \(family), \(length) bytes")
            }
        }
    }

    @Test func sp22_paddingIsZeroWhateverTheBufferHeld() throws {
        for length in 0...9 {
            let value = [UInt8](repeating: 0x11, count: length)
            let bytes = try #require(
                building(MessageType(.binding, .successResponse), identifier, filledWith: 0xAA) { builder, _ in
                    builder.append(.software, value)
                    builder.append(unknown: Array(repeating: AttributeType(rawValue: 0x1111), count: length))
                    builder.append(.realm, value)
                }
            )
            #expect(!bytes.dropFirst(20).contains(0xAA))
            #expect(bytes.count % 4 == 0)
            try parsing(bytes) { message in
                #expect(message.first(.software).map(Array.init) == value)
                #expect(message.first(.unknownAttributes)?.count == length * 2)
                #expect(message.first(.realm).map(Array.init) == value)
            }
        }
    }

    @Test func sp23_errorCodesHaveTheLengthOfTheirValue() throws {
        let codes: [ErrorCode] = [.tryAlternate, .badRequest, .unauthenticated, .staleNonce, .insufficientCapacity]
        for code in codes {
            let bytes = try #require(
                building(MessageType(.allocate, .errorResponse), identifier) { builder, _ in
                    builder.append(error: code)
                    builder.append(addressError: code, family: .ipv6)
                }
            )
            let digits = [UInt8(code.rawValue / 100), UInt8(code.rawValue % 100)]
            try parsing(bytes) { message in
                #expect(message.first(.errorCode).map(Array.init) == [0, 0] + digits)
                #expect(message.first(.addressErrorCode).map(Array.init) == [2, 0] + digits)
            }
        }
    }

    @Test func whatDoesNotFitIsNoMessage() {
        for capacity in 0..<64 {
            let built = building(MessageType(.binding, .request), identifier, capacity: capacity) { builder, _ in
                builder.append(.software, Array("eleven char".utf8))
                builder.append(.lifetime, 1 as UInt32)
                builder.append(.xorMappedAddress, xor: Endpoint(address: IPAddress(v4: 1), port: 1))
                builder.appendFingerprint()
            }
            #expect((built != nil) == (capacity >= 20 + 16 + 8 + 12 + 8), "\(capacity) bytes")
        }
        let tooLong = building(MessageType(.binding, .request), identifier, capacity: 70_000) { builder, _ in
            builder.append(.software, Array(repeating: 0, count: 65_000))
            builder.append(.data, Array(repeating: 0, count: 600))
        }
        #expect(tooLong == nil)
    }

    @Test func channelDataTakesOnlyWhatHasArrived() throws {
        func read(_ bytes: [UInt8]) -> (UInt16, Int)? {
            bytes.withUnsafeBytes { ChannelData($0).map { ($0.channel, $0.length) } }
        }
        for count in 0..<4 { #expect(read(Array(hex("40000000").prefix(count))) == nil) }
        let empty = try #require(read(hex("4000 0000")))
        #expect(empty == (0x4000, 0))
        let padded = try #require(read(hex("4fff 0003 61626300")))
        #expect(padded == (0x4FFF, 3))
        #expect(read(hex("4000 0004 616263")) == nil)
        // PC-13: a length of 35,510 over three bytes.
        #expect(read(hex("4000 8ab6 616263")) == nil)
        #expect(read(hex("4000 ffff")) == nil)
        var header = [UInt8](repeating: 0, count: 5)
        header.withUnsafeMutableBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            ChannelData.writeHeader(channel: 0x4123, length: 0xABCD, at: base + 1)
        }
        #expect(header == hex("00 4123 abcd"))
    }

    @Test func firstBytesOfChannelsAreThoseOfTheTable() {
        for byte in UInt8.min ... .max {
            #expect(ChannelData.isChannel(firstByte: byte, wide: false) == (64...79).contains(byte))
            #expect(ChannelData.isChannel(firstByte: byte, wide: true) == (64...127).contains(byte))
        }
    }
}

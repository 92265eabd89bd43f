import STUN
import TURN
import TestSupport
import Testing

/// SP cases that show at the engine: what a request may look like, and what an answer must.
@Suite struct MessageRuleTests {
    private let peer = Endpoint("8.8.8.8", 4_000)

    @Test func sp11_attributesOfTheWrongSizeAre400() throws {
        let lab = try Lab()
        let client = lab.client()
        func error(_ method: STUN.Method, _ type: AttributeType, _ length: Int) -> UInt16? {
            client.perform(method) { builder in
                builder.append(type, Array(repeating: 1, count: length))
                if method == .allocate, type != .requestedTransport {
                    builder.append(.requestedTransport, 0x1100_0000 as UInt32)
                }
                if method == .channelBind {
                    if type != .channelNumber { builder.append(.channelNumber, 0x4000_0000 as UInt32) }
                    if type != .xorPeerAddress { builder.append(.xorPeerAddress, xor: peer) }
                }
            }?.error
        }
        let allocates: [(AttributeType, [Int])] = [
            (.lifetime, [0, 3, 5]), (.requestedTransport, [0, 1, 3, 5]), (.evenPort, [0, 2, 4]),
            (.reservationToken, [0, 7, 9]), (.requestedAddressFamily, [0, 3, 5]),
            (.additionalAddressFamily, [0, 3, 5]),
        ]
        for (type, lengths) in allocates {
            for length in lengths { #expect(error(.allocate, type, length) == 400, "\(type), \(length) bytes") }
        }
        #expect(lab.engine.allocationCount == 0)
        _ = client.allocate()
        for length in [0, 3, 4, 7, 9, 19, 21] {
            #expect(error(.createPermission, .xorPeerAddress, length) == 400)
            #expect(error(.channelBind, .xorPeerAddress, length) == 400)
            let indication = client.message(MessageType(.send, .indication)) {
                $0.append(.xorPeerAddress, Array(repeating: 1, count: length))
                $0.append(.data, [1])
            }
            #expect(client.send(indication).drop == .badIndication)
        }
        for length in [0, 2, 3, 5] { #expect(error(.channelBind, .channelNumber, length) == 400) }
        for length in [0, 3, 5] {
            #expect(error(.refresh, .lifetime, length) == 400)
            #expect(error(.refresh, .requestedAddressFamily, length) == 400)
        }
    }

    @Test func sp12_familiesThatDoNotExistAre400() throws {
        let client = try Lab().client()
        for family in [0x00, 0x03, 0xFF] as [UInt8] {
            #expect(client.allocate { $0.append(.requestedAddressFamily, [family, 0, 0, 0]) }?.error == 440)
        }
        _ = client.allocate()
        for family in [0x00, 0x03, 0xFF] as [UInt8] {
            for length in [8, 20] {
                let value = [0, family] + Array(repeating: 7, count: length - 2)
                #expect(client.perform(.createPermission) { $0.append(.xorPeerAddress, value) }?.error == 400)
            }
        }
    }

    @Test(arguments: [false, true], [Client.Mode.legacy, .sha256])
    func sp18_whatIsAppendedBehindTheMacHasNoEffect(_ fingerprint: Bool, _ mode: Client.Mode) throws {
        let lab = try Lab()
        let client = lab.client()
        client.mode = mode
        client.challenge()
        let lifetime = hex("000d 0004 00000e10")
        let allocate = client.request(.allocate, signing: client.signing()) {
            $0.append(.requestedTransport, 0x1100_0000 as UInt32)
        }
        let answer = try #require(
            client.send(smuggling(lifetime + hex("0018 0001 80000000"), into: allocate, fingerprint: fingerprint))
                .answer
        )
        #expect(answer.isSuccess)
        #expect(answer.lifetimeSeconds == 600)
        #expect(answer.value(.reservationToken) == nil)

        let stranger = Endpoint("8.8.4.4", 1)
        let transaction = client.newTransaction()
        let permission = client.request(.createPermission, transaction: transaction, signing: client.signing()) {
            $0.append(.xorPeerAddress, xor: peer)
        }
        // XOR-PEER-ADDRESS as the transaction crosses it: IPv4, so the cookie alone.
        let value = client.message(MessageType(.binding, .request), transaction: transaction) {
            $0.append(.xorPeerAddress, xor: stranger)
        }
        #expect(
            client.send(smuggling(Array(value[20...]), into: permission, fingerprint: fingerprint)).answer?.isSuccess
                == true
        )
        #expect(client.indicate(peer).forward != nil)
        #expect(client.indicate(stranger).drop == .noPermission)

        // Neither an error code, nor something unknown, nor another integrity attribute makes it a 420.
        let refresh = client.request(.refresh, signing: client.signing())
        var others = [hex("0009 0004 00000401"), hex("7fff 0000"), hex("0008 0014") + Array(repeating: 1, count: 20)]
        if mode == .sha256 { others.append(hex("001c 0020") + Array(repeating: 1, count: 32)) }
        for attributes in others {
            let answer = client.send(smuggling(attributes + lifetime, into: refresh, fingerprint: fingerprint)).answer
            #expect(answer?.isSuccess == true)
            #expect(answer?.lifetimeSeconds == 600)
        }
    }

    @Test func sp19_aBadFingerprintIsSilence() throws {
        let client = try Lab().client()
        var bytes = client.request(.binding, signing: nil, fingerprint: true)
        #expect(client.send(bytes).answer?.isSuccess == true)
        bytes[bytes.count - 1] ^= 1
        #expect(client.send(bytes).drop == .wrongFingerprint)
    }

    @Test func sp05_sp10_whatIsMalformedIsCountedAndSilent() throws {
        let client = try Lab().client()
        let bytes = client.request(.binding, signing: nil)
        #expect(client.send([]).drop == .tooShort)
        #expect(client.send(Array(bytes.prefix(19))).drop == .tooShort)
        #expect(client.send([0x40] + bytes.dropFirst()).drop == .unknownFirstByte)
        #expect(client.send(bytes + [0, 0, 0, 0]).drop == .malformed)
        #expect(client.send(Array(bytes[..<4]) + [0, 0, 0, 0] + bytes[8...]).drop == .wrongCookie)
        #expect(client.send(smuggling(hex("8022 ffff"), into: bytes, fingerprint: false)).drop == .malformed)
    }

    @Test func sp21_methodsAndClassesThatDoNotBelongTogetherAreSilence() throws {
        let client = try Lab().client()
        for method in [0x000, 0x002, 0x005, 0x0FF, 0xFFF] as [UInt16] {
            for messageClass in [MessageClass.request, .indication] {
                let bytes = client.message(MessageType(Method(rawValue: method), messageClass))
                #expect(client.send(bytes).drop == .unknownMethod)
            }
        }
        #expect(client.send(client.message(MessageType(.send, .request))).drop == .unexpectedClass)
        #expect(client.send(client.message(MessageType(.data, .request))).drop == .unexpectedClass)
        for method in [STUN.Method.allocate, .refresh, .createPermission, .channelBind] {
            #expect(client.send(client.message(MessageType(method, .indication))).drop == .unexpectedClass)
        }
        // A Binding indication is a keep-alive, heard and not answered.
        guard case .handled = client.send(client.message(MessageType(.binding, .indication))) else {
            Issue.record("a Binding indication was not handled")
            return
        }
    }

    @Test func sp22_paddingOfAnswersIsZero() throws {
        // The lab's reply buffer holds 0xA5 and then every earlier answer.
        for length in 8...16 {
            let lab = try Lab { $0.realm = String(repeating: "r", count: length) }
            let client = lab.client()
            let unknown = client.request(.binding, signing: nil) { $0.append(AttributeType(rawValue: 0x7FFE), []) }
            for answer in [client.challenge(), client.send(unknown).answer, client.refresh()] {
                let bytes = try #require(answer).bytes
                var offset = 20
                while offset < bytes.count {
                    let size = Int(bytes[offset + 2]) << 8 | Int(bytes[offset + 3])
                    let end = offset + 4 + size
                    offset = (end + 3) / 4 * 4
                    #expect(bytes[end..<offset].allSatisfy { $0 == 0 })
                }
                #expect(!bytes.dropFirst(20).contains(0xA5))
            }
        }
    }

    @Test func sp24_overlongTextIs400() throws {
        let client = try Lab().client()
        client.challenge()
        func error(_ change: (inout Client.Signing) -> Void, _ more: (inout MessageBuilder) -> Void = { _ in })
            -> UInt16?
        {
            var signing = client.signing()
            change(&signing)
            return client.send(client.request(.refresh, signing: signing, more)).answer?.error
        }
        #expect(error { $0.username = Array(repeating: 0x61, count: 509) } == 400)
        #expect(error { $0.username = Array(repeating: 0x61, count: 508) } == 401)
        #expect(error { $0.realm = Array(repeating: 0x61, count: 764) } == 400)
        #expect(error { $0.nonce = Array(repeating: 0x61, count: 764) } == 400)
        #expect(error { $0.nonce = Array(repeating: 0x61, count: 763) } == 438)
        #expect(error({ _ in }, { $0.append(.software, Array(repeating: 0x61, count: 764)) }) == 400)
        #expect(error({ _ in }, { $0.append(.software, Array(repeating: 0x61, count: 763)) }) == 437)
    }

    @Test func sp25_textThatIsNoneIsRefusedAndNeverTraps() throws {
        let client = try Lab().client()
        client.challenge()
        let texts: [[UInt8]] = [
            [0], hex("0d0a"), hex("1b5b324a"), Array("%s%n%x".utf8), hex("ff"), hex("c0af"), hex("eda080"),
            hex("f4908080"),
            hex("e280ae"), [], Array(repeating: 0xC3, count: 508), Array("'; DROP TABLE users; --".utf8),
        ]
        for text in texts {
            var signing = client.signing()
            signing.username = text
            #expect(client.send(client.request(.refresh, signing: signing)).answer?.error == 401)
            signing = client.signing()
            signing.realm = text
            #expect(client.send(client.request(.refresh, signing: signing)).answer?.error == 401)
            signing = client.signing()
            let answer = client.send(client.request(.refresh, signing: signing) { $0.append(.software, text) }).answer
            #expect(answer?.error == 437)
        }
    }

    @Test func sp15_anAuthenticatedRequestWithSomethingUnknownIs420AndSigned() throws {
        let client = try Lab().client()
        let answer = try #require(client.allocate { $0.append(AttributeType(rawValue: 0x7FFF), []) })
        #expect(answer.error == 420)
        #expect(answer.value(.unknownAttributes) == [0x7F, 0xFF])
        #expect(client.isSigned(answer, .sha1, .md5))
        #expect(client.allocate { $0.append(AttributeType(rawValue: 0xC0FF), [1]) }?.isSuccess == true)
    }

    @Test func everyDropReasonHasItsCounterAndItsLabel() {
        var counters = Counters()
        for (index, reason) in DropReason.allCases.enumerated() { counters.drop(reason, UInt64(index) + 1) }
        var sum = Counters()
        sum.add(counters)
        sum.add(counters)
        for (index, reason) in DropReason.allCases.enumerated() { #expect(sum[reason] == 2 * (UInt64(index) + 1)) }
        #expect(sum.packetsDropped == 2 * counters.packetsDropped)
        #expect(Set(DropReason.allCases.map(\.label)).count == DropReason.allCases.count)
    }
}

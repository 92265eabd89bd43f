import STUN
import TestSupport
import Testing
import Traversal

/// An agent opposite a peer that the test writes by hand: what stands in the messages, and whose nominations count.
@Suite struct WireTests {
    /// A peer with two addresses, which answers every check.
    private final class HandWritten {
        let agent: ICEAgent
        let cryptography: SeededCryptography
        let credentials: ICECredentials
        let addresses = [5_001, 5_002].map { Endpoint(address: IPAddress(v4: 0xC000_0202), port: $0) }
        let base = ICEBase(rawValue: 1)
        let tieBreaker: UInt64 = 1
        var now = seconds
        var isControlling: Bool
        /// Requests and answers of the agent.
        var requests: [(to: Endpoint, bytes: [UInt8])] = []
        var answers: [[UInt8]] = []

        init(controlling: Bool, renomination: Bool = false, isLate: Bool = false) throws {
            cryptography = try SeededCryptography(seed: 3)
            isControlling = controlling
            agent = ICEAgent(role: controlling ? .controlled : .controlling, cryptography: cryptography)
            credentials = try ICECredentials(usernameFragment: "peer", password: "abcdefghijklmnopqrstuvwx")
            let own = Endpoint(address: IPAddress(v4: 0xC000_0201), port: 5_000)
            act {
                agent.addLocalCandidate(ICELocalCandidate(base: base, type: .host, endpoint: own), now: now, into: &$0)
            }
            guard !isLate else { return }
            act { actions in
                try? agent.setRemote(
                    ICERemoteParameters(credentials: credentials, supportsRenomination: renomination),
                    now: now,
                    into: &actions
                )
                for (index, address) in addresses.enumerated() {
                    let candidate = ICECandidate(
                        foundation: "\(index)",
                        priority: 2_000_000_000 - UInt32(index),
                        address: .ip(address.address),
                        port: address.port,
                        type: .host
                    )
                    agent.addRemoteCandidate(candidate, now: now, into: &actions)
                }
            }
        }

        func act(_ call: (inout [ICEAction]) -> Void) {
            var actions: [ICEAction] = []
            call(&actions)
            for case .send(_, let target, let bytes) in actions {
                if bytes[0] == 0 { requests.append((target, bytes)) } else { answers.append(bytes) }
            }
        }

        /// Lets time pass, and answers what the agent asks meanwhile.
        func run(for nanoseconds: UInt64) {
            let end = now + nanoseconds
            var answered = 0
            while true {
                while answered < requests.count {
                    let request = requests[answered]
                    answered += 1
                    deliver(success(of: request.bytes), from: request.to)
                }
                requests.removeFirst(answered)
                answered = 0
                guard let next = agent.nextDeadline, next <= end else { break }
                now = max(now, next)
                act { agent.advance(now: now, into: &$0) }
            }
            now = end
        }

        func deliver(_ bytes: [UInt8], from source: Endpoint) {
            bytes.withUnsafeBytes { buffer in
                act { agent.receive(buffer, on: base, from: source, now: now, into: &$0) }
            }
        }

        private func success(of request: [UInt8]) -> [UInt8] {
            let transaction = request.withUnsafeBytes { TransactionID(high: $0.uint64(at: 8), low: $0.uint32(at: 16)) }
            return message(MessageType(.binding, .successResponse), transaction, password: credentials.password) {
                $0.append(.xorMappedAddress, xor: Endpoint(address: IPAddress(v4: 0xC000_0201), port: 5_000))
            }
        }

        func refusal(of request: [UInt8], code: UInt32, password: String? = nil) -> [UInt8] {
            let transaction = request.withUnsafeBytes { TransactionID(high: $0.uint64(at: 8), low: $0.uint32(at: 16)) }
            return message(
                MessageType(.binding, .errorResponse),
                transaction,
                password: password ?? credentials.password
            ) { $0.append(.errorCode, (code / 100) << 8 | code % 100) }
        }

        /// A check of the peer.
        func check(password: String? = nil, _ attributes: (inout MessageBuilder) -> Void = { _ in }) -> [UInt8] {
            let transaction = TransactionID(high: 7, low: UInt32(truncatingIfNeeded: now))
            let own = agent.localCredentials
            return message(MessageType(.binding, .request), transaction, password: password ?? own.password) {
                builder in
                builder.append(.username, Array("\(own.usernameFragment):\(credentials.usernameFragment)".utf8))
                builder.append(AttributeType(rawValue: 0x0024), 1_862_270_975 as UInt32)
                builder.append(AttributeType(rawValue: isControlling ? 0x802A : 0x8029), tieBreaker)
                attributes(&builder)
            }
        }

        func message(
            _ type: MessageType,
            _ transaction: TransactionID,
            password: String,
            _ attributes: (inout MessageBuilder) -> Void
        ) -> [UInt8] {
            var space = [UInt8](repeating: 0, count: 512)
            let count = space.withUnsafeMutableBytes { buffer -> Int in
                var builder = MessageBuilder(type, transaction, into: buffer)
                attributes(&builder)
                Array(password.utf8).withUnsafeBytes { builder.append(.sha1, key: $0, with: cryptography) }
                builder.appendFingerprint()
                return builder.finish() ?? 0
            }
            return Array(space.prefix(count))
        }

        /// The number in ERROR-CODE of the last answer, or 0.
        var error: Int {
            guard let answer = answers.last else { return 0 }
            return answer.withUnsafeBytes { buffer in
                guard let value = try? MessageView(buffer).first(.errorCode) else { return 0 }
                return Int(value[2]) * 100 + Int(value[3])
            }
        }

        func nominate(_ index: Int, number: UInt32? = nil) {
            now += milliseconds
            deliver(
                check { builder in
                    if let number {
                        builder.append(AttributeType(rawValue: 0xC001), number)
                    } else {
                        builder.append(AttributeType(rawValue: 0x0025), [])
                    }
                },
                from: addresses[index]
            )
        }
    }

    /// RFC 8445 sections 7.1 and 7.2.2.
    @Test func aCheckHasWhatTheSpecificationAsksFor() throws {
        for controlling in [false, true] {
            let peer = try HandWritten(controlling: !controlling)
            let request = try #require(peer.requests.first)
            #expect(request.to == peer.addresses[0])
            try request.bytes.withUnsafeBytes { buffer in
                let message = try MessageView(buffer)
                let name = "peer:\(peer.agent.localCredentials.usernameFragment)"
                #expect(message.first(.username).map { String(decoding: $0, as: UTF8.self) } == name)
                #expect(message.first(AttributeType(rawValue: 0x0024))?.uint32(at: 0) == 1_862_270_975)
                #expect(message.first(AttributeType(rawValue: controlling ? 0x802A : 0x8029))?.count == 8)
                #expect(message.first(AttributeType(rawValue: controlling ? 0x8029 : 0x802A)) == nil)
                #expect(message.first(AttributeType(rawValue: 0x0025)) == nil)
                #expect(message.fingerprintOffset != 0)
                let isSigned = Array(peer.credentials.password.utf8).withUnsafeBytes {
                    Integrity.sha1.verifies(message, key: $0, with: peer.cryptography)
                }
                #expect(isSigned)
            }
        }
    }

    @Test func theControllingAgentNominatesTheBestAndNumbersItOnlyForThoseWhoUnderstand() throws {
        for renomination in [false, true] {
            let peer = try HandWritten(controlling: false, renomination: renomination)
            var nominations: [(Endpoint, Bool)] = []
            for _ in 0..<10 {
                peer.run(for: 50 * milliseconds)
                let next = peer.agent.nextDeadline ?? .max
                guard next < peer.now + 50 * milliseconds else { break }
                peer.now = next
                peer.act { peer.agent.advance(now: peer.now, into: &$0) }
                for request in peer.requests {
                    try request.bytes.withUnsafeBytes { buffer in
                        let message = try MessageView(buffer)
                        guard message.first(AttributeType(rawValue: 0x0025)) != nil else { return }
                        nominations.append((request.to, message.first(AttributeType(rawValue: 0xC001)) != nil))
                    }
                }
            }
            peer.run(for: seconds)
            #expect(peer.agent.path?.remote == peer.addresses[0])
            #expect(peer.agent.path?.isNominated == true)
            #expect(nominations.allSatisfy { $0.0 == peer.addresses[0] && $0.1 == renomination })
        }
    }

    /// Agents of RFC 5245 put USE-CANDIDATE into every check: the best of those pairs counts (RFC 8445 section 8.1.1).
    @Test func ofSeveralNominationsTheBestCounts() throws {
        let peer = try HandWritten(controlling: true)
        peer.run(for: seconds)
        peer.nominate(1)
        #expect(peer.agent.path?.remote == peer.addresses[1] && peer.agent.path?.isNominated == true)
        peer.nominate(0)
        peer.nominate(1)
        #expect(peer.agent.path?.remote == peer.addresses[0])
    }

    /// Agents that nominate what they use move by nominating another and leaving the first out.
    @Test func aNominationThatIsNoMoreRepeatedGivesWayToALaterOne() throws {
        let peer = try HandWritten(controlling: true)
        peer.run(for: seconds)
        peer.nominate(0)
        peer.nominate(1)
        #expect(peer.agent.path?.remote == peer.addresses[0])
        peer.now += milliseconds
        peer.deliver(peer.check(), from: peer.addresses[0])
        #expect(peer.agent.path?.remote == peer.addresses[1])
    }

    @Test func ofNumberedNominationsTheHighestCounts() throws {
        let peer = try HandWritten(controlling: true)
        peer.run(for: seconds)
        peer.nominate(0, number: 1)
        peer.nominate(1, number: 2)
        #expect(peer.agent.path?.remote == peer.addresses[1])
        peer.nominate(0, number: 1)
        #expect(peer.agent.path?.remote == peer.addresses[1])
        peer.nominate(0, number: 3)
        #expect(peer.agent.path?.remote == peer.addresses[0])
    }

    /// RFC 8445 section 7.3.1.5: it counts once our own check has been answered.
    @Test func aNominationBeforeThePairIsValidIsRemembered() throws {
        let peer = try HandWritten(controlling: true)
        peer.nominate(1)
        #expect(peer.agent.path == nil)
        peer.run(for: 20 * milliseconds)
        peer.run(for: 100 * milliseconds)
        #expect(peer.agent.path?.remote == peer.addresses[1] && peer.agent.path?.isNominated == true)
    }

    @Test func requestsThatLackSomethingAreRefusedAndStrangersAreNotAnswered() throws {
        let peer = try HandWritten(controlling: true)
        peer.deliver(peer.check { $0.append(AttributeType(rawValue: 0x0033), 1 as UInt32) }, from: peer.addresses[0])
        #expect(peer.error == 420)
        let own = peer.agent.localCredentials
        let bare = peer.message(
            MessageType(.binding, .request),
            TransactionID(high: 1, low: 1),
            password: own.password
        ) { $0.append(.username, Array("\(own.usernameFragment):peer".utf8)) }
        peer.deliver(bare, from: peer.addresses[0])
        #expect(peer.error == 400 && peer.agent.counters.refusedRequests == 2)
        let count = peer.answers.count
        peer.deliver(peer.check(password: "wrongwrongwrongwrongwrong"), from: peer.addresses[0])
        let foreign = peer.message(
            MessageType(.binding, .request),
            TransactionID(high: 1, low: 2),
            password: own.password
        ) { $0.append(.username, Array("\(own.usernameFragment):other".utf8)) }
        peer.deliver(foreign, from: peer.addresses[0])
        peer.deliver([0, 1, 0, 0] + [UInt8](repeating: 0, count: 16), from: peer.addresses[0])
        peer.deliver([], from: peer.addresses[0])
        #expect(peer.answers.count == count)
        #expect(peer.agent.counters.unauthenticated == 2 && peer.agent.counters.malformed == 2)
        #expect(peer.agent.report.pairs.allSatisfy { $0.requestsReceived == 0 })
    }

    /// RFC 8445 section 7.3.1.1: the smaller tie-breaker of two that control is told so.
    @Test func theLoserOfARoleConflictGets487() throws {
        let peer = try HandWritten(controlling: false)
        peer.isControlling = true
        peer.deliver(peer.check(), from: peer.addresses[0])
        #expect(peer.error == 487 && peer.agent.role == .controlling)
    }

    /// RFC 8445 section 7.2.5.2.1.
    @Test func anAnswerFromElsewhereFailsThePair() throws {
        let peer = try HandWritten(controlling: false)
        let request = try #require(peer.requests.first)
        let transaction = request.bytes.withUnsafeBytes {
            TransactionID(high: $0.uint64(at: 8), low: $0.uint32(at: 16))
        }
        let answer = peer.message(
            MessageType(.binding, .successResponse),
            transaction,
            password: peer.credentials.password
        ) { $0.append(.xorMappedAddress, xor: peer.addresses[0]) }
        peer.deliver(answer, from: peer.addresses[1])
        #expect(peer.agent.report.pairs.first?.failure == .asymmetric)
        peer.deliver(answer, from: peer.addresses[0])
        #expect(peer.agent.counters.unexpectedAnswers == 1 && peer.agent.path == nil)
    }

    /// RFC 7675 section 5.2: what the peer refuses with 403 has no consent from then on, and is signed like any answer.
    @Test func consentThatIsTakenBackEndsThePathAtOnce() throws {
        let peer = try HandWritten(controlling: false)
        peer.run(for: 5 * seconds)
        #expect(peer.agent.path != nil)
        func asked() throws -> [(to: Endpoint, bytes: [UInt8])] {
            peer.requests = []
            while peer.requests.isEmpty {
                peer.now = max(peer.now, try #require(peer.agent.nextDeadline))
                peer.act { peer.agent.advance(now: peer.now, into: &$0) }
            }
            return peer.requests
        }
        // Another error takes nothing back, and nor does another's word.
        for request in try asked() { peer.deliver(peer.refusal(of: request.bytes, code: 400), from: request.to) }
        for request in try asked() {
            peer.deliver(peer.refusal(of: request.bytes, code: 403, password: "another's"), from: request.to)
        }
        #expect(peer.agent.path != nil)
        while peer.agent.path != nil, peer.now < 20 * seconds {
            for request in try asked() { peer.deliver(peer.refusal(of: request.bytes, code: 403), from: request.to) }
        }
        // Far less than the 30 s for which consent lives without an answer.
        #expect(peer.agent.path == nil && peer.agent.state == .failed)
        #expect(peer.agent.report.failure == .consentRevoked)
        #expect(peer.agent.report.pairs.contains { $0.failure == .consentRevoked })
    }
}

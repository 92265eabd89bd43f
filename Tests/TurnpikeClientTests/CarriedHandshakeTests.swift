import DataChannels
import Lab
import OpenSSLCrypto
import STUN
import Signaling
import TestSupport
import Testing
import Traversal

@testable import TurnpikeClient

/// Sessions whose offers, answers and signals a test carries by hand. There is no path between them.
private final class Bench: SessionHost {
    let context: PeerContext
    let gatherer: Gatherer
    let maxRetries = 0
    let problems: [String] = []
    private(set) var told: [(kind: SignalingMessageKind, payload: JSONValue)] = []
    private(set) var failure: ConnectionFailure?

    init(_ host: Host, seed: UInt64) throws {
        let network = try LabNetwork(host, seed: seed)
        let router = PathRouter()
        context = PeerContext(network, router: router, identity: try .init())
        gatherer = Gatherer(network, router: router, localPort: 0, keepAliveNanoseconds: ClientLimits.second) { _ in }
    }

    func tell(
        _ kind: SignalingMessageKind,
        _ payload: JSONValue,
        from: PeerID,
        to: PeerID,
        failed: @escaping (SignalingError) -> Void
    ) { told.append((kind, payload)) }

    func opening(_ session: PeerSession) {}
    func opened(_ session: PeerSession) {}
    func pathChanged(_ session: PeerSession, to path: ICEPath?) {}
    func ended(_ session: PeerSession, _ end: PeerLink.End) {}
    func failed(_ session: PeerSession, _ failure: ConnectionFailure) { self.failure = failure }
    func user(of channel: DataChannel, in session: PeerSession) -> (any ChannelUser)? { nil }
    func resumer(_ session: UInt64) -> @Sendable () -> Void { {} }

    let networkFacts = NetworkFacts()
    let serverClock: ServerClock? = nil
    let aimFacts: StreamAim.Facts? = nil
    let aimsStreams = false
    let punchFacts: PunchFacts? = nil
    func networkFacts(of peer: PeerID) -> NetworkFacts? { nil }
    func pathMemory(from local: PeerID, to remote: PeerID) -> PathMemory? { nil }
    func report(_ method: PathMethod, worked: Bool, milliseconds: UInt64, from local: PeerID, to remote: PeerID) {}

    func last(_ kind: SignalingMessageKind) -> JSONValue? { told.last { $0.kind == kind }?.payload }
}

/// The part of the handshakes that goes with an offer and its answer.
@Suite struct CarriedHandshakeTests {
    private struct Pair {
        let internet: Internet
        let hosts: (alice: Bench, bob: Bench)
        let alice: PeerSession
        let bob: PeerSession

        init() throws {
            internet = Internet(seed: 1) { net in
                net.host("alice")
                net.host("bob")
            }
            hosts = (
                try Bench(internet.host("alice"), seed: 1), try Bench(internet.host("bob"), seed: 2)
            )
            alice = PeerSession(1, local: "alice", remote: "bob", host: hosts.alice)
            bob = PeerSession(1, local: "bob", remote: "alice", host: hosts.bob)
            alice.begin()
        }

        func offer() throws -> JSONValue { try #require(hosts.alice.last(.offer)) }

        /// Bob's answer to an offer.
        func answer(_ offer: JSONValue) throws -> JSONValue {
            bob.takeOffer(offer)
            return try #require(hosts.bob.last(.answer))
        }

        /// Links hold one another's parts until they are over.
        func close() {
            alice.link?.finish(.closed)
            bob.link?.finish(.closed)
        }

        /// Both know one another, and have only the path to wait for.
        var areSecure: Bool {
            [alice, bob].allSatisfy {
                $0.phase == .connecting && $0.link?.dtls?.state == .established
                    && $0.link?.carried.hasAssociations == true
            }
        }

        /// What each has told by signal goes to the other.
        func signal() {
            if let payload = hosts.alice.last(.signal) { bob.takeSignal(payload) }
            if let payload = hosts.bob.last(.signal) { alice.takeSignal(payload) }
        }
    }

    private static func with(_ member: String, _ value: JSONValue?, in payload: JSONValue) -> JSONValue {
        var members = payload.object ?? [:]
        members[member] = value
        return .object(members)
    }

    private static func with(_ member: String, _ value: JSONValue?, inFlightOf payload: JSONValue) throws -> JSONValue {
        let flight = try #require(payload[HandshakeFlight.member])
        return with(HandshakeFlight.member, with(member, value, in: flight), in: payload)
    }

    private static func replacing(_ text: String, with other: String, in payload: JSONValue) throws -> JSONValue {
        let sdp = try #require(payload["sdp"]?.string)
        try #require(sdp.contains(text), "\(sdp)")
        return with("sdp", .string(sdp.replacing(text, with: other)), in: payload)
    }

    @Test func bothEndsAreSecureBeforeThereIsAPath() async throws {
        try await SCTPTime.virtual {
            let pair = try Pair()
            defer { pair.close() }
            let offer = try pair.offer()
            #expect(offer["sdp"]?.string?.contains("a=setup:actpass\r\n") == true)
            let answer = try pair.answer(offer)
            #expect(answer["sdp"]?.string?.contains("a=setup:passive\r\n") == true)
            #expect(pair.alice.link?.dtls == nil)
            pair.alice.takeAnswer(answer)
            let (alice, bob) = (try #require(pair.alice.link), try #require(pair.bob.link))
            #expect(alice.dtls?.maySeal == true && alice.dtls?.state == .handshaking)
            #expect(bob.dtls?.maySeal == false)
            pair.signal()
            #expect(pair.areSecure)
            // A signal that comes again, or one of another attempt, changes nothing.
            pair.signal()
            #expect(pair.areSecure)
        }
    }

    /// Browsers, pion and aiortc pass over what stands beside the SDP.
    @Test func aForeignAnswererIsTheClientAsBefore() async throws {
        try await SCTPTime.virtual {
            let pair = try Pair()
            defer { pair.close() }
            let foreign = try Self.replacing(" \(HandshakeEnvelope.option)", with: "", in: pair.offer())
            let answer = try pair.answer(foreign)
            #expect(answer["sdp"]?.string?.contains("a=setup:active\r\n") == true)
            #expect(answer[HandshakeFlight.member] == nil)
            pair.alice.takeAnswer(answer)
            let (alice, bob) = (try #require(pair.alice.link), try #require(pair.bob.link))
            #expect(alice.dtlsRole == .server && bob.dtlsRole == .client)
            #expect(alice.dtls?.state == .handshaking && alice.association == nil && !alice.carried.isAgreed)
            #expect(pair.hosts.alice.last(.signal) == nil && pair.hosts.bob.last(.signal) == nil)
        }
    }

    static let malformed: [JSONValue?] = [
        nil, .null, .string("FkFE"), .array([]), .array([.string("")]), .array([.string("FkF")]),
        .array([.string("Fk\nE")]), .array([.number(22)]), .array([.string("FkFE")]),
        .array([.string(Base64.encode(Array(repeating: 22, count: 1_081)))]),
        .array(Array(repeating: .string("FkFE"), count: 9)),
    ]

    @Test(arguments: malformed) func anOfferWithAMalformedFlightIsAnsweredAsOneWithoutAny(
        records: JSONValue?
    ) async throws {
        try await SCTPTime.virtual {
            let pair = try Pair()
            defer { pair.close() }
            let answer = try pair.answer(try Self.with("dtls", records, inFlightOf: pair.offer()))
            #expect(answer["sdp"]?.string?.contains("a=setup:active\r\n") == true)
            #expect(answer[HandshakeFlight.member] == nil)
            pair.alice.takeAnswer(answer)
            #expect(pair.alice.link?.dtlsRole == .server && pair.alice.phase == .connecting)
        }
    }

    /// The hello goes by the path, where the peer waits for it.
    @Test(arguments: malformed) func anAnswerWithAMalformedFlightLeavesTheHandshakeToThePath(
        records: JSONValue?
    ) async throws {
        try await SCTPTime.virtual {
            let pair = try Pair()
            defer { pair.close() }
            let answer = try pair.answer(try pair.offer())
            pair.alice.takeAnswer(try Self.with("dtls", records, inFlightOf: answer))
            let link = try #require(pair.alice.link)
            #expect(link.dtlsRole == .client && link.dtls?.state == .handshaking && link.dtls?.maySeal == false)
            if records != .array([.string("FkFE")]) { #expect(!link.waitingRecords.isEmpty && !link.carried.isAgreed) }
        }
    }

    @Test func withoutAPartOfSCTPItsHandshakeFollowsThatOfDTLS() async throws {
        try await SCTPTime.virtual {
            let pair = try Pair()
            defer { pair.close() }
            let answer = try pair.answer(try Self.with("sctp", .string("E4g="), inFlightOf: pair.offer()))
            #expect(answer[HandshakeFlight.member]?["sctp"] == nil)
            pair.alice.takeAnswer(answer)
            pair.signal()
            let (alice, bob) = (try #require(pair.alice.link), try #require(pair.bob.link))
            #expect(alice.dtls?.state == .established && bob.dtls?.state == .established)
            #expect(!alice.carried.hasAssociations && !bob.carried.hasAssociations)
            #expect(alice.association != nil && bob.association != nil)
            #expect(pair.alice.phase == .connecting && pair.bob.phase == .connecting)
        }
    }

    /// Bob's association stands, and no other handshake leads to it: another attempt is made.
    @Test func anAnswerWithAnotherInitAckFailsTheAttempt() async throws {
        try await SCTPTime.virtual {
            let pair = try Pair()
            defer { pair.close() }
            let answer = try pair.answer(try pair.offer())
            pair.alice.takeAnswer(try Self.with("sctp", .string("E4gTiA=="), inFlightOf: answer))
            #expect(pair.hosts.alice.failure?.reason == .signaling)
        }
    }

    @Test func aWrongFingerprintInTheAnswerIsTheEnd() async throws {
        try await SCTPTime.virtual {
            let pair = try Pair()
            defer { pair.close() }
            let answer = try pair.answer(try pair.offer())
            let own = pair.hosts.bob.context.identity.fingerprint
            let other = pair.hosts.alice.context.identity.fingerprint
            func text(_ bytes: [UInt8]) -> String {
                DataChannels.CertificateFingerprint(hashFunction: "sha-256", digest: bytes).text
            }
            pair.alice.takeAnswer(try Self.replacing(text(own.bytes), with: text(other.bytes), in: answer))
            #expect(pair.hosts.alice.failure?.reason == .encryption, "\(pair.hosts.alice.failure?.error ?? "")")
            #expect(pair.alice.phase == .ended)
        }
    }

    /// Signaling delivers once or more often.
    @Test func anOfferThatComesAgainGetsTheSameAnswer() async throws {
        try await SCTPTime.virtual {
            let pair = try Pair()
            defer { pair.close() }
            let first = try pair.answer(try pair.offer())
            let second = try pair.answer(try pair.offer())
            #expect(first[HandshakeFlight.member] == second[HandshakeFlight.member])
            pair.alice.takeAnswer(second)
            pair.alice.takeAnswer(first)
            pair.signal()
            #expect(pair.areSecure)
        }
    }

    /// Both call: the one whose offer gives way has nothing of it left.
    @Test func ofTwoOffersOneIsAnswered() async throws {
        try await SCTPTime.virtual {
            let pair = try Pair()
            defer { pair.close() }
            pair.bob.begin()
            let offers = (try pair.offer(), try #require(pair.hosts.bob.last(.offer)))
            pair.alice.takeOffer(offers.1)
            #expect(pair.hosts.alice.last(.answer) == nil)
            pair.alice.takeAnswer(try pair.answer(offers.0))
            pair.signal()
            #expect(pair.areSecure)
            #expect(pair.bob.link?.carried.prepared == nil && pair.bob.link?.isOfferer == false)
        }
    }

    @Test func mutatedFlightsDoNoHarm() async throws {
        try await SCTPTime.virtual {
            var random = SeededGenerator(for: "carried handshakes")
            func change(_ bytes: [UInt8]) -> [UInt8] {
                guard !bytes.isEmpty, Bool.random(using: &random) else { return bytes }
                var bytes = bytes
                for _ in 0..<Int.random(in: 1...4, using: &random) {
                    let index = Int.random(in: 0..<bytes.count, using: &random)
                    bytes[index] = UInt8.random(in: 0...255, using: &random)
                }
                if Bool.random(using: &random) { bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random)) }
                return bytes
            }
            func change(_ flight: HandshakeFlight) -> HandshakeFlight {
                HandshakeFlight(
                    records: flight.records.map { change($0) },
                    association: flight.association.map { change($0) }
                )
            }
            func changed(_ payload: JSONValue) -> JSONValue {
                guard let value = payload[HandshakeFlight.member] else { return payload }
                let members = change(HandshakeFlight(value)).members
                return Self.with(HandshakeFlight.member, .object(members), in: payload)
            }
            for _ in 0..<fuzzRounds(100) {
                let pair = try Pair()
                defer { pair.close() }
                pair.alice.takeAnswer(changed(try pair.answer(changed(try pair.offer()))))
                if let payload = pair.hosts.alice.last(.signal) {
                    pair.bob.link?.receive(change(HandshakeFlight(payload)))
                }
                pair.signal()
            }
        }
    }
}

import NIOCore
import NIOPosix
import STUN
import Testing
import Traversal
import TurnpikeClient

/// A TCP port of the real system, on loopback.
@Suite struct StreamPortTests {
    private static let loopback = IPAddress(v4: 0x7F00_0001)

    /// A port with what has come to it.
    private final class Place {
        private(set) var port: (any StreamPort)?
        private(set) var accepted: [(link: any StreamLink, from: Endpoint)] = []
        var text = ""
        private let network: NIONetwork
        private let changed: () -> Void

        init(_ network: NIONetwork, _ changed: @escaping () -> Void) throws {
            (self.network, self.changed) = (network, changed)
            port = try network.openStreams(at: StreamPortTests.loopback, port: 0) { [unowned self] event in
                guard case .accepted(let link, let source, let take) = event else { return }
                accepted.append((link, source))
                take { [unowned self] in hear($0) }
                changed()
            }
        }

        var local: Endpoint { port?.local ?? Endpoint(address: .anyIPv4, port: 0) }

        func hear(_ event: StreamEvent) {
            if case .bytes(let bytes) = event { text += String(decoding: bytes, as: UTF8.self) }
            changed()
        }
    }

    private static func say(_ text: String, _ link: any StreamLink) {
        Array(text.utf8).withUnsafeBytes { link.send($0) }
    }

    @Test func aConnectionComesFromThePortThatListens() async throws {
        let isRight: Bool = try await onLoop { network, done in
            var (first, second): (Place?, Place?)
            func look() {
                guard let first, let second, second.text == "question", first.text == "answer" else { return }
                done(second.accepted.map(\.from) == [first.local])
            }
            let one = try Place(network, look)
            let other = try Place(network) {
                if second?.text == "question", let link = second?.accepted.first?.link, first?.text.isEmpty == true {
                    Self.say("answer", link)
                }
                look()
            }
            (first, second) = (one, other)
            let link = one.port?.connect(to: other.local) { [unowned one] in one.hear($0) }
            if let link { Self.say("question", link) }
            return [one, other, link]
        }
        #expect(isRight)
    }

    /// Both connect in one turn of the loop: the system makes one connection of it, by whichever way.
    @Test func twoThatConnectToEachOtherHaveOneConnection() async throws {
        let ends: [Int] = try await onLoop { network, done in
            var opened = [0, 0]
            var places: [Place] = []
            var failures = 0
            func look() {
                let accepted = places.map(\.accepted.count)
                guard opened[0] + accepted[0] >= 1, opened[1] + accepted[1] >= 1 else { return }
                done([opened[0] + accepted[0], opened[1] + accepted[1]])
            }
            places = [try Place(network, look), try Place(network, look)]
            let links = [0, 1].map { index in
                places[index].port?.connect(to: places[1 - index].local) { event in
                    switch event {
                    case .opened: opened[index] += 1
                    // The twin: there is a connection between these ends already.
                    case .closed(let failure): failures += failure?.reason == .addressUnavailable ? 1 : 0
                    default: break
                    }
                    look()
                }
            }
            return places + links
        }
        #expect(ends == [1, 1])
    }

    @Test func aSecondConnectionBetweenTheSameEndsIsRefusedByTheSystem() async throws {
        let reason: NetworkFailure.Reason? = try await onLoop { network, done in
            let (one, other) = (try Place(network) {}, try Place(network) {})
            let kept = Kept()
            let first = one.port?.connect(to: other.local) { [unowned one, unowned other] event in
                guard case .opened = event else { return }
                kept.link = one.port?.connect(to: other.local) { event in
                    if case .closed(let failure) = event { done(failure?.reason) }
                }
            }
            return [one, other, first, kept]
        }
        #expect(reason == .addressUnavailable)
    }

    /// Who ends a connection in good order has its ends blocked for a minute; these do not.
    @Test func aConnectionCanBeHadAgainAtOnceAfterItsEnd() async throws {
        let count: Int = try await onLoop { network, done in
            let (one, other) = (try Place(network) {}, try Place(network) {})
            let kept = Kept()
            var ends = 0
            func connect() {
                let link = one.port?.connect(to: other.local) { event in
                    switch event {
                    case .opened:
                        kept.link?.close()
                        kept.alarm?.set(at: network.nowNanoseconds + 300_000_000)
                    case .closed: done(-ends)
                    default: break
                    }
                }
                kept.link = link
            }
            kept.alarm = network.alarm {
                ends += 1
                if ends == 3 { done(ends) } else { connect() }
            }
            connect()
            return [one, other, kept]
        }
        #expect(count == 3)
    }

    /// What a test needs until its end.
    private final class Kept {
        var link: (any StreamLink)?
        var alarm: (any Alarm)?
    }
}

import Glibc
import NIOCore
import NIOPosix
import STUN
import Testing
import Traversal
import TurnpikeClient

/// The real network, on loopback.
@Suite struct NIONetworkTests {
    private static let loopback = IPAddress(v4: 0x7F00_0001)

    @Test func datagramsGoFromSocketToSocket() async throws {
        let texts: [String] = try await onLoop { network, done in
            var texts: [String] = []
            var echo: (any DatagramPort)?
            let first = try? network.openDatagrams(at: Self.loopback, port: 0) { event in
                guard case .datagram(let bytes, let source) = event else { return }
                echo?.send(bytes, to: source)
            }
            echo = first
            let second = try? network.openDatagrams(at: Self.loopback, port: 0) { event in
                guard case .datagram(let bytes, let source) = event, source == first?.local else { return }
                texts.append(String(decoding: bytes, as: UTF8.self))
                if texts.count == 100 { done(texts) }
            }
            guard let first, let second else {
                done([])
                return []
            }
            for number in 0..<100 {
                Array("datagram \(number)".utf8).withUnsafeBytes { second.send($0, to: first.local) }
            }
            return [first, second]
        }
        #expect(texts == (0..<100).map { "datagram \($0)" })
    }

    @Test func aWildcardSocketKnowsTheAddressItSendsFrom() async throws {
        let (isAny, port): (Bool, UInt16) = try await onLoop { network, done in
            let socket = try? network.openDatagrams(at: .anyIPv4, port: 0) { _ in }
            done((socket?.local.address.isAny ?? true, socket?.local.port ?? 0))
            socket?.close()
            return []
        }
        #expect(!isAny)
        #expect(port != 0)
    }

    /// NIO would close the socket for any of these.
    @Test func aDestinationThatCannotBeReachedIsToldAndTheSocketStays() async throws {
        let (unreachable, text): (Endpoint, String) = try await onLoop { network, done in
            let broadcast = Endpoint(address: IPAddress(v4: 0xFFFF_FFFF), port: 9)
            var told: Endpoint?
            var held: (any DatagramPort)?
            let socket = try? network.openDatagrams(at: Self.loopback, port: 0) { event in
                switch event {
                case .unreachable(let endpoint):
                    told = endpoint
                    guard let held else { return }
                    Array("still here".utf8).withUnsafeBytes { held.send($0, to: held.local) }
                case .datagram(let bytes, _):
                    if let told { done((told, String(decoding: bytes, as: UTF8.self))) }
                case .failed(let failure): done((Endpoint(address: .anyIPv4, port: 0), "\(failure)"))
                }
            }
            held = socket
            Array("x".utf8).withUnsafeBytes { socket?.send($0, to: broadcast) }
            return [socket]
        }
        #expect(unreachable.port == 9)
        #expect(text == "still here")
    }

    /// To peers the system sets DF and cuts nothing, whatever it has heard of the path; to servers it does as usual.
    @Test(arguments: [true, false]) func datagramsToPeersAreNotCut(isIPv4: Bool) async throws {
        let modes: [CInt?] = try await onLoop { network, done in
            let own = isIPv4 ? Self.loopback : IPAddress(high: 0, low: 1)
            let peers = try network.openDatagrams(at: own, port: 0) { _ in }
            let server = try network.openDatagrams(to: Endpoint(address: own, port: peers.local.port)) { _ in }
            done([peers, server].map { Self.pathMTUMode(ofPort: $0.local.port, isIPv4: isIPv4) })
            return [peers, server]
        }
        #expect(modes == [CInt(IP_PMTUDISC_PROBE), CInt(IP_PMTUDISC_WANT)])
    }

    /// Of the UDP socket with that port.
    private static func pathMTUMode(ofPort port: UInt16, isIPv4: Bool) -> CInt? {
        for descriptor in 0..<CInt(4_096) {
            var (kind, mode) = (CInt(0), CInt(-1))
            var length = socklen_t(MemoryLayout<CInt>.size)
            guard getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &kind, &length) == 0,
                kind == CInt(SOCK_DGRAM.rawValue)
            else { continue }
            var storage = sockaddr_storage()
            var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let isNamed = withUnsafeMutablePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) == 0 }
            }
            let family = isIPv4 ? AF_INET : AF_INET6
            // Both families have the port at the same place.
            let bound = withUnsafeBytes(of: &storage) { UInt16(bigEndian: $0.load(fromByteOffset: 2, as: UInt16.self)) }
            guard isNamed, CInt(storage.ss_family) == family, bound == port else { continue }
            let (level, option) = isIPv4 ? (IPPROTO_IP, IP_MTU_DISCOVER) : (IPPROTO_IPV6, IPV6_MTU_DISCOVER)
            length = socklen_t(MemoryLayout<CInt>.size)
            return getsockopt(descriptor, CInt(level), option, &mode, &length) == 0 ? mode : nil
        }
        return nil
    }

    @Test func aTakenPortIsNamed() async throws {
        let reason: NetworkFailure.Reason? = try await onLoop { network, done in
            let first = try? network.openDatagrams(at: Self.loopback, port: 0) { _ in }
            do throws(NetworkFailure) {
                _ = try network.openDatagrams(at: Self.loopback, port: first?.local.port ?? 1) { _ in }
                done(nil)
            } catch {
                done(error.reason)
            }
            return [first]
        }
        #expect(reason == .addressInUse)
    }

    @Test func aConnectionCarriesAMegabyteAndEnds() async throws {
        let server = try await EchoServer()
        let (count, isSame): (Int, Bool) = try await onLoop { network, done in
            let sent = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            var received: [UInt8] = []
            var held: (any StreamLink)?
            let link = network.connect(to: server.endpoint) { event in
                switch event {
                case .opened: break
                case .bytes(let bytes):
                    received += bytes
                    if received.count == sent.count {
                        done((received.count, received == sent))
                        held?.close()
                    }
                case .writable: break
                case .closed(let failure): done((received.count, failure == nil))
                }
            }
            held = link
            // Before it is open: it waits.
            sent.withUnsafeBytes { link.send($0) }
            return [link]
        }
        #expect(count == 1_000_000)
        #expect(isSame)
        try await server.stop()
    }

    @Test func aPortWithoutAListenerIsNamed() async throws {
        let server = try await EchoServer()
        let endpoint = server.endpoint
        try await server.stop()
        let failure: NetworkFailure? = try await onLoop { network, done in
            [network.connect(to: endpoint) { if case .closed(let failure) = $0 { done(failure) } }]
        }
        #expect(failure?.reason == .refused)
        #expect(failure?.description.contains("nothing listens there") == true)
    }

    @Test func namesAreLookedUpOffTheLoop() async throws {
        let (local, unknown): ([IPAddress], NetworkFailure.Reason?) = try await onLoop { network, done in
            network.resolve("localhost") { local in
                network.resolve("no-such-name.invalid") { unknown in
                    var reason: NetworkFailure.Reason?
                    if case .failure(let failure) = unknown { reason = failure.reason }
                    done(((try? local.get()) ?? [], reason))
                }
            }
            return []
        }
        #expect(local.contains(Self.loopback) || local.contains(IPAddress(high: 0, low: 1)))
        // Where there is no name service at all, that is what is said.
        #expect(unknown == .unknownName || unknown == .nameServiceFailed)
    }

    @Test func anAlarmGoesOffOnceAtTheLastTimeItWasSetFor() async throws {
        let count: Int = try await onLoop { network, done in
            var count = 0
            let start = network.nowNanoseconds
            let alarm = network.alarm { count += 1 }
            alarm.set(at: start + 5_000_000_000)
            alarm.set(at: start + 1_000_000)
            alarm.set(at: start + 20_000_000)
            let never = network.alarm { count += 100 }
            never.set(at: start + 2_000_000)
            never.set(at: nil)
            let end = network.alarm { done(network.nowNanoseconds < start + 20_000_000 ? -1 : count) }
            end.set(at: start + 60_000_000)
            return [alarm, never, end]
        }
        #expect(count == 1)
    }

    @Test func theMachinesAddressesAreItsOwn() async throws {
        let bound: [Bool] = try await onLoop { network, done in
            let results = network.localAddresses().map { local in
                let port = try? network.openDatagrams(at: local.address, port: 0) { _ in }
                defer { port?.close() }
                return port?.local.address == local.address
            }
            done(results)
            return []
        }
        #expect(!bound.isEmpty)
        #expect(bound.contains(true))
    }
}

/// Sends everything back.
struct EchoServer {
    let endpoint: Endpoint
    private let channel: any Channel

    init() async throws {
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Echo()) }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        endpoint = Endpoint(
            address: IPAddress(v4: 0x7F00_0001),
            port: UInt16(truncatingIfNeeded: channel.localAddress?.port ?? 0)
        )
    }

    func stop() async throws { try await channel.close() }

    private final class Echo: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        func channelRead(context: ChannelHandlerContext, data: NIOAny) { context.writeAndFlush(data, promise: nil) }
    }
}

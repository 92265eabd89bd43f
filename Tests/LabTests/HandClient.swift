import Lab
import OpenSSLCrypto
import STUN
import TURN
import Testing

/// A TURN client of a few lines, which waits for each answer.
final class HandClient {
    private(set) var relayed: Endpoint?
    private(set) var lastError: Int?
    /// Peers that a Data indication with ICMP spoke of.
    private(set) var unreachable: [Endpoint] = []
    private(set) var isClosed = false

    private let internet: Internet
    private let server: Endpoint
    private let username: String
    private let password: String
    private let cryptography: OpenSSLCryptography
    private var socket: UDPSocket?
    private var connection: TCPConnection?
    private var unread: [UInt8] = []
    private var frames: [[UInt8]] = []
    private var realm: [UInt8] = []
    private var nonce: [UInt8] = []
    private var transaction: UInt64 = 0

    init(
        _ host: Host,
        _ relay: RelayServer,
        _ username: String,
        _ password: String,
        overTCP: Bool = false,
        port: UInt16 = 3_478
    ) throws {
        internet = host.internet
        server = Endpoint(relay.endpoint().address, port)
        (self.username, self.password) = (username, password)
        cryptography = try OpenSSLCryptography()
        if overTCP {
            connection = host.connect(to: server)
            connection?.onReceive = { [unowned self] in cut($0) }
            connection?.onClose = { [unowned self] _ in isClosed = true }
        } else {
            socket = host.udp()
            socket?.onReceive = { [unowned self] in take($0.bytes) }
        }
    }

    func allocate() throws {
        _ = try request(.allocate, signed: false) { $0.append(.requestedTransport, 0x1100_0000 as UInt32) }
        let answer = try request(.allocate) { $0.append(.requestedTransport, 0x1100_0000 as UInt32) }
        relayed = answer.endpoint(.xorRelayedAddress)
    }

    func permit(_ peer: Endpoint) throws {
        let answer = try request(.createPermission) { $0.append(.xorPeerAddress, xor: peer) }
        #expect(answer.type.messageClass == .successResponse)
    }

    func bind(_ number: UInt16, to peer: Endpoint) throws {
        let answer = try request(.channelBind) {
            $0.append(.channelNumber, UInt32(number) << 16)
            $0.append(.xorPeerAddress, xor: peer)
        }
        #expect(answer.type.messageClass == .successResponse)
    }

    func indicate(_ text: String, to peer: Endpoint) {
        send(
            message(MessageType(.send, .indication)) {
                $0.append(.xorPeerAddress, xor: peer)
                $0.append(.data, Array(text.utf8))
            }
        )
    }

    func channel(_ number: UInt16, _ text: String) {
        let bytes = [UInt8(number >> 8), UInt8(number & 0xFF), 0, UInt8(text.utf8.count)] + Array(text.utf8)
        send(bytes + [UInt8](repeating: 0, count: connection == nil ? 0 : -bytes.count & 3))
    }

    func disconnect() { connection?.abort() }

    /// The texts of Data indications.
    func takeData() -> [String] {
        defer { frames = [] }
        return frames.compactMap { Reading($0)?.value(.data) }.map { String(decoding: $0, as: UTF8.self) }
    }

    func takeChannelData() -> [String] {
        defer { frames = [] }
        return frames.filter { $0[0] == 0x40 }.map { String(decoding: $0[4..<(4 + Int($0[3]))], as: UTF8.self) }
    }

    private func request(
        _ method: STUN.Method,
        signed: Bool = true,
        _ attributes: (inout MessageBuilder) -> Void
    ) throws -> Reading {
        transaction += 1
        send(
            message(MessageType(method, .request), transaction: transaction) { builder in
                attributes(&builder)
                guard signed else { return }
                builder.append(.username, Array(username.utf8))
                builder.append(.realm, realm)
                builder.append(.nonce, nonce)
                let text = Array(username.utf8) + [0x3A] + realm + [0x3A] + Array(password.utf8)
                Digest.md5(text).withUnsafeBytes { builder.append(.sha1, key: $0, with: cryptography) }
            }
        )
        var answer: Reading?
        try internet.run(
            while: {
                answer = frames.lazy.compactMap(Reading.init).first {
                    $0.type.method == method && $0.type.messageClass != .indication
                }
                return answer == nil
            },
            atMostSeconds: 5
        )
        frames = []
        let found = try #require(answer, "no answer")
        realm = found.value(.realm) ?? realm
        nonce = found.value(.nonce) ?? nonce
        lastError = found.error
        return found
    }

    private func send(_ bytes: [UInt8]) {
        socket?.send(bytes, to: server)
        connection?.send(bytes)
    }

    private func cut(_ bytes: [UInt8]) {
        unread += bytes
        while case .frame(let length, let consumed) = unread.withUnsafeBytes({
            StreamFramer.next($0, acceptsWideChannels: false)
        }) {
            take(Array(unread.prefix(length)))
            unread.removeFirst(consumed)
        }
    }

    private func take(_ bytes: [UInt8]) {
        let reading = Reading(bytes)
        if reading?.value(.icmp) != nil, let peer = reading?.endpoint(.xorPeerAddress) {
            return unreachable.append(peer)
        }
        frames.append(bytes)
    }
}

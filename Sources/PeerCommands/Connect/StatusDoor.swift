import Foundation
import Synchronization
import TurnpikeClient

/// The two paths of the original's web server, for programs on this machine: `GET /p2p/status` and
/// `GET /p2p/connect/{peerId}`. One request a connection, and every one is bounded in size, time and number.
final class StatusDoor: Sendable {
    /// Where it listens.
    let address: String
    private let descriptor: Int32
    private let answer: @Sendable (_ path: String) async -> HTTPAnswer
    private let open = Atomic(0)

    /// - Parameters:
    ///   - place: a loopback address and a port, as `127.0.0.1:3000` or `[::1]:3000`; port 0 for any.
    ///   - answer: what a path without a query gives.
    /// - Throws: status 64 for another address, 1 where it cannot be listened on.
    init(_ place: String, _ answer: @escaping @Sendable (_ path: String) async -> HTTPAnswer) throws {
        self.answer = answer
        guard let endpoint = Self.loopback(place) else { throw Self.refusal(place) }
        descriptor = socket(endpoint.address.isIPv4 ? AF_INET : AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
        var one: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        guard descriptor >= 0, Self.bind(descriptor, endpoint), listen(descriptor, 16) == 0 else {
            let reason = String(cString: strerror(errno))
            if descriptor >= 0 { Foundation.close(descriptor) }
            throw CommandError.failed("--http \(place): \(reason); choose another port, or 0 for any")
        }
        address = AddressText.text(Endpoint(address: endpoint.address, port: Self.port(descriptor) ?? endpoint.port))
        Thread.detachNewThread { self.accept() }
    }

    static func isPlace(_ text: String) -> Bool { loopback(text) != nil }

    /// Whoever reaches this door connects in our name.
    static func refusal(_ place: String) -> CommandError {
        .usage("--http \(place.escapedForTerminal): give a loopback address and a port, such as 127.0.0.1:3000")
    }

    /// Nothing is taken any more.
    func close() {
        // The thread that accepts wakes up and ends; it closes the descriptor, so that no other gets its number first.
        shutdown(descriptor, Int32(SHUT_RDWR))
    }

    private func accept() {
        while true {
            let connection = Foundation.accept(descriptor, nil, nil)
            if connection < 0 {
                if errno == EINTR || errno == ECONNABORTED { continue }
                break
            }
            guard open.add(1, ordering: .relaxed).newValue <= Self.connectionsMax else {
                open.subtract(1, ordering: .relaxed)
                Foundation.close(connection)
                continue
            }
            Thread.detachNewThread { self.serve(connection) }
        }
        Foundation.close(descriptor)
    }

    private func serve(_ connection: Int32) {
        var patience = timeval(tv_sec: 5, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(connection, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        let head = Self.head(connection)
        Task {
            let answer = await self.answer(to: head)
            // A peer that does not read is waited for on a thread of its own.
            Thread.detachNewThread {
                Self.write(answer.bytes, to: connection)
                Foundation.close(connection)
                self.open.subtract(1, ordering: .relaxed)
            }
        }
    }

    private func answer(to head: String?) async -> HTTPAnswer {
        guard let head, let request = HTTPRequest(head) else { return HTTPAnswer(400, error: "that is no request") }
        guard request.method == "GET" else { return HTTPAnswer(405, error: "only GET is served here") }
        // A page of the web that a browser shows must not connect in our name: by its own name for this address, or
        // from another origin.
        guard request.isFromHere else {
            return HTTPAnswer(403, error: "ask by the address itself, and from no web page")
        }
        return await answer(request.path)
    }

    // MARK: Sockets

    private static func loopback(_ place: String) -> Endpoint? {
        guard let colon = place.lastIndex(of: ":"), let port = UInt16(place[place.index(after: colon)...]) else {
            return nil
        }
        var host = place[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard let address = AddressText.address(host) else { return nil }
        let isLoopback = address.isIPv4 ? address.v4 >> 24 == 127 : address == IPAddress(high: 0, low: 1)
        return isLoopback ? Endpoint(address: address, port: port) : nil
    }

    private static func bind(_ descriptor: Int32, _ endpoint: Endpoint) -> Bool {
        if endpoint.address.isIPv4 {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = endpoint.port.bigEndian
            address.sin_addr.s_addr = endpoint.address.v4.bigEndian
            return bind(descriptor, &address)
        }
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = endpoint.port.bigEndian
        withUnsafeMutableBytes(of: &address.sin6_addr) { bytes in
            bytes.storeBytes(of: endpoint.address.high.bigEndian, as: UInt64.self)
            bytes.storeBytes(of: endpoint.address.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        return bind(descriptor, &address)
    }

    private static func bind<Address>(_ descriptor: Int32, _ address: inout Address) -> Bool {
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Foundation.bind(descriptor, $0, socklen_t(MemoryLayout<Address>.size)) == 0
            }
        }
    }

    /// Both families have the port at the same place.
    private static func port(_ descriptor: Int32) -> UInt16? {
        var address = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let status = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        return status == 0 ? UInt16(bigEndian: address.sin6_port) : nil
    }

    /// Up to the empty line; nil where it does not come.
    private static func head(_ connection: Int32) -> String? {
        var head: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1_024)
        let deadline = ContinuousClock.now + .seconds(5)
        while head.count < headBytesMax, ContinuousClock.now < deadline {
            let count = recv(connection, &piece, piece.count, 0)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return nil }
            head += piece[..<count]
            let text = String(decoding: head, as: UTF8.self)
            if let end = text.range(of: "\r\n\r\n") { return String(text[..<end.lowerBound]) }
        }
        return nil
    }

    private static func write(_ bytes: [UInt8], to connection: Int32) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            rest = rest.dropFirst(count)
        }
    }

    private static let connectionsMax = 32
    private static let headBytesMax = 8_192
}

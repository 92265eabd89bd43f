import Foundation

/// One HTTP/1.1 request and its answer over a Unix socket. Each request has a connection of its own.
struct AdminConnection: ~Copyable {
    enum Failure: Error {
        /// Nobody listens at the path.
        case nobody
        /// The system call that failed, with its error number.
        case system(String, Int32)
        case pathTooLong
        case timedOut
        /// What answered does not speak HTTP as the server does, or ended in the middle.
        case malformed
    }

    struct Answer {
        let status: Int
        let body: [UInt8]
    }

    private let descriptor: Int32
    private let deadline: ContinuousClock.Instant

    private init(descriptor: Int32, deadline: ContinuousClock.Instant) {
        (self.descriptor, self.deadline) = (descriptor, deadline)
    }

    /// - Parameter timeoutSeconds: for everything together: connecting, asking and reading.
    static func open(path: String, timeoutSeconds: Int64) throws(Failure) -> AdminConnection {
        let bytes = Array(path.utf8)
        var address = sockaddr_un()
        let isShort = withUnsafeMutableBytes(of: &address.sun_path) { place in
            guard bytes.count < place.count, !bytes.contains(0) else { return false }
            place.copyBytes(from: bytes)
            return true
        }
        guard isShort else { throw .pathTooLong }
        address.sun_family = sa_family_t(AF_UNIX)
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw .system("socket", errno) }
        let connection = AdminConnection(descriptor: descriptor, deadline: .now + .seconds(timeoutSeconds))
        // Connecting waits while the server's backlog is full, and for no longer than a send may.
        var patience = timeval(tv_sec: Int(timeoutSeconds), tv_usec: 0)
        for option in [SO_SNDTIMEO, SO_RCVTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        let code = errno
        guard status == 0 else {
            switch code {
            case ENOENT, ECONNREFUSED, ENOTDIR: throw .nobody
            case EAGAIN, EINPROGRESS: throw .timedOut
            default: throw .system("connect", code)
            }
        }
        return connection
    }

    deinit { close(descriptor) }

    /// - Parameter target: path and query, percent-encoded already.
    consuming func ask(_ method: String, _ target: String) throws(Failure) -> Answer {
        let head = "\(method) \(target) HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        try send(Array(head.utf8))
        return try Self.answer(in: try readAll())
    }

    private borrowing func send(_ bytes: [UInt8]) throws(Failure) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count < 0 {
                if errno == EINTR { continue }
                if errno == EAGAIN { throw .timedOut }
                // The server closed: what it said first may still be there to read.
                if errno == EPIPE { return }
                throw .system("send", errno)
            }
            rest = rest.dropFirst(count)
        }
    }

    /// The connection ends with the answer, as `Connection: close` asks.
    private borrowing func readAll() throws(Failure) -> [UInt8] {
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let left = ContinuousClock.now.duration(to: deadline).components
            guard left.seconds >= 0, left.attoseconds >= 0 else { throw .timedOut }
            var wanted = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let ready = poll(&wanted, 1, Int32(clamping: left.seconds * 1_000 + 1_000))
            if ready == 0 { throw .timedOut }
            let count = ready < 0 ? -1 : recv(descriptor, &buffer, buffer.count, 0)
            if count < 0 {
                if errno == EINTR { continue }
                if errno == EAGAIN { throw .timedOut }
                if errno == ECONNRESET { throw .malformed }
                throw .system("recv", errno)
            }
            if count == 0 { return all }
            all += buffer.prefix(count)
            guard all.count <= Self.answerBytesMax else { throw .malformed }
        }
    }

    /// - Parameter bytes: everything that came (RFC 9112 section 2.1). The server always sends a Content-Length.
    static func answer(in bytes: [UInt8]) throws(Failure) -> Answer {
        let blank = Array("\r\n\r\n".utf8)
        let bound = min(bytes.count, headBytesMax)
        guard let end = bytes[..<bound].firstRange(of: blank) else { throw .malformed }
        let lines = String(decoding: bytes[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
        let words = lines.first?.split(separator: " ") ?? []
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]),
            (100...599).contains(status)
        else { throw .malformed }
        let body = Array(bytes[end.upperBound...])
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2, parts[0].lowercased() == "content-length" else { continue }
            // A connection that was cut must not pass for a short list.
            guard Int(parts[1].trimmingCharacters(in: .whitespaces)) == body.count else { throw .malformed }
        }
        return Answer(status: status, body: body)
    }

    /// 100,000 sessions take less.
    private static let answerBytesMax = 128 << 20
    private static let headBytesMax = 16 << 10
}

import Glibc
import NIOCore
import NIOPosix
import Traversal

/// Host names by the system's resolver, which blocks: each lookup has a thread of a pool for its time.
final class NameLookup {
    typealias Answer = Result<[IPAddress], NetworkFailure>

    private let loop: any EventLoop
    /// Who waits for which name.
    private var waiting: [String: [(Answer) -> Void]] = [:]

    init(_ loop: any EventLoop) { self.loop = loop }

    func resolve(_ name: String, _ answer: @escaping (Answer) -> Void) {
        if let address = AddressText.address(name) {
            return loop.assumeIsolated().execute { answer(.success([address])) }
        }
        if waiting[name] != nil {
            waiting[name]?.append(answer)
            return
        }
        guard waiting.count < ClientLimits.lookups else {
            let failure = NetworkFailure(.nameServiceFailed, name, detail: "too many names are being looked up")
            return loop.assumeIsolated().execute { answer(.failure(failure)) }
        }
        waiting[name] = [answer]
        let found = NIOThreadPool.singleton.runIfActive(eventLoop: loop) { Self.lookUp(name) }
        found.assumeIsolated().whenComplete { result in
            let result: Answer =
                switch result {
                case .success(let answer): answer
                case .failure(let error): .failure(NetworkFailure(error, name))
                }
            for answer in self.waiting.removeValue(forKey: name) ?? [] { answer(result) }
        }
    }

    private static func lookUp(_ name: String) -> Answer {
        guard !name.isEmpty, name.utf8.count <= 255, !name.utf8.contains(0) else {
            return .failure(NetworkFailure(.unknownName, "the name \(name.prefix(60))"))
        }
        var hints = addrinfo()
        // One entry for each address, not one for each kind of socket.
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        hints.ai_family = AF_UNSPEC
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(name, nil, &hints, &list)
        guard status == 0 else {
            let isUnknown = status == EAI_NONAME || status == noAddress
            let reason: NetworkFailure.Reason = isUnknown ? .unknownName : .nameServiceFailed
            return .failure(
                NetworkFailure(reason, "the name \(name)", detail: String(cString: gai_strerror(status)))
            )
        }
        defer { freeaddrinfo(list) }
        var addresses: [IPAddress] = []
        var next = list
        while let entry = next?.pointee, addresses.count < ClientLimits.addressesPerName {
            next = entry.ai_next
            guard let pointer = entry.ai_addr, let endpoint = SystemAddress.endpoint(UnsafePointer(pointer)),
                !addresses.contains(endpoint.address)
            else { continue }
            addresses.append(endpoint.address)
        }
        return addresses.isEmpty
            ? .failure(NetworkFailure(.unknownName, "the name \(name)")) : .success(addresses)
    }

    /// EAI_NODATA, which the header shows to GNU sources alone: the name is there and has no address.
    private static let noAddress: CInt = -5
}

import OpenSSLCrypto
import STUN
import TestSupport

@testable import Traversal

/// A host with one `PortMapper`, and its gateway, in virtual time. Every packet takes a millisecond each way.
struct MappingWorld {
    static let gateway = IPAddress("192.168.1.1")
    static let client = IPAddress("192.168.1.2")
    static let server = Endpoint(address: gateway, port: 5_351)
    static let outside = IPAddress("198.51.100.7")

    private enum Delivery {
        case toServer([UInt8])
        case toDevice([UInt8], Endpoint)
        case answer([UInt8], Endpoint)
        case announcement([UInt8], Endpoint)
        case bytes(Int, [UInt8])
        case closed(Int)
    }

    private(set) var now: UInt64 = 1_000 * seconds
    var mapper: PortMapper
    var gateway: MappingServer
    /// Is off where it is nil.
    var device: UPnPDevice?
    /// Nothing arrives at the gateway.
    var isCut = false
    /// Every exchange of the mapper's that a device took, with what it was for.
    private(set) var exchanges: [String] = []
    /// Datagrams that left, with the time since the beginning in milliseconds.
    private(set) var sent: [(milliseconds: UInt64, bytes: [UInt8], to: Endpoint)] = []
    private(set) var granted: [PortMapping] = []
    private(set) var lost: [InternalPort] = []
    private(set) var isReleased = false
    private(set) var releasedAt: UInt64 = 0
    private var deliveries: [(at: UInt64, what: Delivery)] = []
    private let begin: UInt64

    init(speaking: Set<PortMappingProtocol>) throws {
        begin = now
        mapper = PortMapper(gateway: Self.gateway, client: Self.client, with: try OpenSSLCryptography())
        gateway = MappingServer(externalAddress: Self.outside.v4, now: now)
        gateway.speaksPCP = speaking.contains(.pcp)
        gateway.speaksNATPMP = speaking.contains(.natPMP)
        if speaking.contains(.upnp) { device = UPnPDevice() }
    }

    var mapping: PortMapping? { mapper.report.mappings.first }

    mutating func map(_ port: UInt16 = 40_000, _ transport: InternalPort.Transport = .udp) {
        call { $0.map(InternalPort(transport, port), now: $1, into: &$2) }
    }

    mutating func release() { call { $0.release(now: $1, into: &$2) } }

    mutating func verify() { call { $0.verify(now: $1, into: &$2) } }

    /// Something comes that the gateway's model has not sent.
    mutating func inject(_ bytes: [UInt8], from source: Endpoint = server, isAnnouncement: Bool = false) {
        call {
            if isAnnouncement {
                $0.announced(bytes, from: source, now: $1, into: &$2)
            } else {
                $0.receive(bytes, from: source, now: $1, into: &$2)
            }
        }
    }

    mutating func reboot(announcing: Bool) {
        gateway.reboot(now)
        device?.leases = [:]
        guard announcing else { return }
        for bytes in gateway.announcements(now) {
            deliveries.append((now + milliseconds, .announcement(bytes, Self.server)))
        }
    }

    mutating func run(seconds time: Double) {
        let end = now + UInt64(time * 1e9)
        while true {
            let delivery = deliveries.indices.min { deliveries[$0].at < deliveries[$1].at }
            let next = min(delivery.map { deliveries[$0].at } ?? .max, max(mapper.nextDeadline ?? .max, now))
            guard next <= end else { break }
            now = next
            if let delivery, deliveries[delivery].at == next {
                deliver(deliveries.remove(at: delivery).what)
            } else {
                call { $0.advance(now: $1, into: &$2) }
                // A deadline that passes without anything coming of it would stop the clock.
                precondition(mapper.nextDeadline.map { $0 > now } ?? true, "a deadline stays due")
            }
        }
        now = end
        gateway.forgetExpired(now)
    }

    private mutating func deliver(_ what: Delivery) {
        let soon = now + milliseconds
        switch what {
        case .toServer(let bytes):
            guard !isCut, let answer = gateway.answer(bytes, from: Self.client.v4, now) else { return }
            deliveries.append((soon, .answer(answer, Self.server)))
        case .toDevice(let bytes, let destination):
            guard !isCut, let answer = device?.search(bytes) else { return }
            guard destination.address == Self.gateway || destination == UPnPMessage.searchGroup else { return }
            deliveries.append((soon, .answer(answer, Endpoint(address: Self.gateway, port: 1_900))))
        case .answer(let bytes, let source): call { $0.receive(bytes, from: source, now: $1, into: &$2) }
        case .announcement(let bytes, let source): call { $0.announced(bytes, from: source, now: $1, into: &$2) }
        case .bytes(let number, let bytes):
            call { mapper, now, actions in
                bytes.withUnsafeBytes { mapper.answered(number, $0, now: now, into: &actions) }
            }
        case .closed(let number): call { $0.closed(number, now: $1, into: &$2) }
        }
    }

    private mutating func call(_ body: (inout PortMapper, UInt64, inout [PortMappingAction]) -> Void) {
        var actions: [PortMappingAction] = []
        body(&mapper, now, &actions)
        for action in actions { perform(action) }
    }

    private mutating func perform(_ action: PortMappingAction) {
        switch action {
        case .send(let bytes, let destination):
            sent.append(((now - begin) / milliseconds, bytes, destination))
            deliveries.append(
                (
                    now + milliseconds,
                    destination == Self.server ? .toServer(bytes) : .toDevice(bytes, destination)
                )
            )
        case .exchange(let number, let endpoint, let request):
            guard !isCut, var device, endpoint.address == Self.gateway else {
                return deliveries.append((now + milliseconds, .closed(number)))
            }
            let (name, answer) = device.answer(request, at: endpoint.port)
            self.device = device
            exchanges.append(name)
            guard let answer else { return }
            deliveries.append((now + 2 * milliseconds, .bytes(number, answer)))
            deliveries.append((now + 3 * milliseconds, .closed(number)))
        case .abandon(let number):
            deliveries.removeAll {
                switch $0.what {
                case .bytes(number, _), .closed(number): true
                default: false
                }
            }
        case .granted(let mapping): granted.append(mapping)
        case .lost(let port): lost.append(port)
        case .released: (isReleased, releasedAt) = (true, now)
        }
    }
}

/// An Internet Gateway Device: answers the search, and HTTP.
struct UPnPDevice {
    struct Lease: Equatable {
        var client: String
        var internalPort: String
        var seconds: String
    }

    var port: UInt16 = 5_000
    var location = "http://192.168.1.1:5000/igd/desc.xml"
    var serviceType = "urn:schemas-upnp-org:service:WANIPConnection:1"
    var controlURL = "/ctl/IPConn"
    var externalAddress = "198.51.100.7"
    /// Ports of others, for which the device has error 718.
    var taken: Set<String> = []
    /// An error for AddPortMapping, by what the lease is.
    var refusal: (_ seconds: String) -> UInt16? = { _ in nil }
    /// Sends its bytes in chunks.
    var isChunked = false
    /// Says nothing on the connection.
    var isMute = false
    /// External port and protocol, such as `40000 UDP`.
    var leases: [String: Lease] = [:]

    func search(_ bytes: [UInt8]) -> [UInt8]? {
        let text = String(decoding: bytes, as: UTF8.self)
        guard text.hasPrefix("M-SEARCH * HTTP/1.1\r\n"), text.contains("MAN: \"ssdp:discover\"\r\n"),
            text.hasSuffix("\r\n\r\n")
        else { return nil }
        return Array(
            ("HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: "
                + "urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nEXT:\r\nLocation:  \(location)\r\n\r\n").utf8
        )
    }

    /// - Returns: what the request was for, and the answer.
    mutating func answer(_ request: [UInt8], at port: UInt16) -> (String, [UInt8]?) {
        let text = String(decoding: request, as: UTF8.self)
        guard port == self.port else { return ("wrong port", nil) }
        if isMute { return ("mute", nil) }
        if text.hasPrefix("GET /igd/desc.xml HTTP/1.1\r\n") { return ("describe", http("200 OK", description)) }
        guard text.hasPrefix("POST \(controlURL) HTTP/1.1\r\n"),
            let action = text.split(separator: "SOAPAction: \"\(serviceType)#").dropFirst().first?.split(
                separator: "\""
            )
            .first.map(String.init)
        else { return ("bad request", http("404 Not Found", "")) }
        func argument(_ name: String) -> String {
            String(text.split(separator: "<\(name)>").dropFirst().first?.prefix { $0 != "<" } ?? "")
        }
        let key = "\(argument("NewExternalPort")) \(argument("NewProtocol"))"
        switch action {
        case "GetExternalIPAddress":
            return (action, done(action, "<NewExternalIPAddress>\(externalAddress)</NewExternalIPAddress>"))
        case "AddPortMapping":
            let seconds = argument("NewLeaseDuration")
            let lease = Lease(
                client: argument("NewInternalClient"),
                internalPort: argument("NewInternalPort"),
                seconds: seconds
            )
            if let code = refusal(seconds) { return (action, fault(code)) }
            if taken.contains(argument("NewExternalPort")) { return (action, fault(718)) }
            leases[key] = lease
            return (action, done(action, ""))
        case "DeletePortMapping":
            return (action, leases.removeValue(forKey: key) == nil ? fault(714) : done(action, ""))
        default: return (action, fault(401))
        }
    }

    private var description: String {
        """
        <?xml version="1.0"?><!-- a gateway <service> --><root xmlns="urn:schemas-upnp-org:device-1-0"><device>
        <serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
        <controlURL>/ctl/L3F</controlURL></service></serviceList><deviceList><device><serviceList><service>
        <serviceType> \(serviceType) </serviceType><SCPDURL>/scpd.xml</SCPDURL>
        <controlURL>\(controlURL)</controlURL></service></serviceList></device></deviceList></device></root>
        """
    }

    private func done(_ action: String, _ body: String) -> [UInt8] {
        http("200 OK", "<s:Envelope><s:Body><u:\(action)Response>\(body)</u:\(action)Response></s:Body></s:Envelope>")
    }

    private func fault(_ code: UInt16) -> [UInt8] {
        http(
            "500 Internal Server Error",
            "<s:Envelope><s:Body><s:Fault><detail><UPnPError><errorCode>\(code)</errorCode>"
                + "</UPnPError></detail></s:Fault></s:Body></s:Envelope>"
        )
    }

    private func http(_ status: String, _ body: String) -> [UInt8] {
        guard isChunked else {
            return Array("HTTP/1.1 \(status)\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
        }
        let half = body.utf8.count / 2
        let chunks = [body.prefix(half), body.dropFirst(half)].filter { !$0.isEmpty }
            .map { "\(String($0.utf8.count, radix: 16));x\r\n\($0)\r\n" }
        return Array("HTTP/1.1 \(status)\r\nTransfer-Encoding: chunked\r\n\r\n\(chunks.joined())0\r\n\r\n".utf8)
    }
}

import STUN

/// What is said to UPnP devices: the search (UPnP Device Architecture 1.1 section 1.3) and SOAP actions (section 3).
enum UPnPMessage {
    static let searchGroup = Endpoint(address: IPAddress(v4: 0xEFFF_FFFA), port: PortMappingLimits.searchPort)
    /// A device of version 2 answers for version 1 as well (section 1.3.2).
    static let gatewayDevice = "urn:schemas-upnp-org:device:InternetGatewayDevice:1"

    static func search() -> [UInt8] {
        Array(
            """
            M-SEARCH * HTTP/1.1\r
            HOST: 239.255.255.250:1900\r
            MAN: "ssdp:discover"\r
            MX: 1\r
            ST: \(gatewayDevice)\r
            \r

            """.utf8
        )
    }

    /// The device's description, by an answer to the search.
    static func location(_ bytes: [UInt8]) -> HTTPLocation? {
        guard bytes.count <= PortMappingLimits.searchAnswerBytes else { return nil }
        let lines = String(decoding: bytes, as: UTF8.self).split { $0 == "\r\n" || $0 == "\n" || $0 == "\r" }
        let words = lines.first?.split(separator: " ") ?? []
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), words[1] == "200" else { return nil }
        func value(_ name: String) -> String? {
            lines.first { $0.lowercased().hasPrefix(name + ":") }.map {
                let text = $0.dropFirst(name.utf8.count + 1).drop { $0 == " " || $0 == "\t" }
                return String(text.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
            }
        }
        guard value("st")?.contains("InternetGatewayDevice") == true else { return nil }
        return value("location").flatMap { HTTPLocation($0) }
    }

    static func get(_ location: HTTPLocation) -> [UInt8] {
        Array(
            "GET \(location.path) HTTP/1.1\r\nHost: \(host(location))\r\nConnection: close\r\n\r\n".utf8
        )
    }

    /// - Parameter arguments: in the order of the service's description, of which some devices make much.
    static func action(_ name: String, _ arguments: [(String, String)], at service: UPnPService) -> [UInt8] {
        let values = arguments.map { "<\($0.0)>\($0.1)</\($0.0)>" }.joined()
        let body = """
            <?xml version="1.0"?>\r
            <s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" \
            s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>\
            <u:\(name) xmlns:u="\(service.type)">\(values)</u:\(name)></s:Body></s:Envelope>\r

            """
        let head = [
            "POST \(service.control.path) HTTP/1.1",
            "Host: \(host(service.control))",
            "Content-Type: text/xml; charset=\"utf-8\"",
            "SOAPAction: \"\(service.type)#\(name)\"",
            "Content-Length: \(body.utf8.count)",
            "Connection: close",
        ]
        return Array((head.joined(separator: "\r\n") + "\r\n\r\n" + body).utf8)
    }

    private static func host(_ location: HTTPLocation) -> String { AddressText.text(location.endpoint) }
}

/// The service of a gateway that maps ports.
struct UPnPService: Hashable {
    /// The best first; the last is of gateways that dial.
    static let types = [
        "urn:schemas-upnp-org:service:WANIPConnection:2",
        "urn:schemas-upnp-org:service:WANIPConnection:1",
        "urn:schemas-upnp-org:service:WANPPPConnection:1",
    ]

    /// One of `types`.
    var type: String
    var control: HTTPLocation

    /// Reads a description (UPnP Device Architecture 1.1 section 2.3).
    static func all(in description: [UInt8], at location: HTTPLocation) -> [UPnPService] {
        var base = location
        var found: [UPnPService] = []
        var (element, type, control) = ("", "", "")
        var markup = Markup(description)
        while let token = markup.next() {
            switch token {
            case .open("service"): (element, type, control) = ("", "", "")
            case .open(let name): element = name
            case .text(let text):
                switch element {
                case "URLBase": base = location.resolving(text) ?? base
                case "serviceType": type = text
                case "controlURL": control = text
                default: break
                }
            case .close("service"):
                if let known = types.first(where: { $0 == type }), let control = base.resolving(control) {
                    let service = UPnPService(type: known, control: control)
                    if !found.contains(service), found.count < PortMappingLimits.locations { found.append(service) }
                }
                element = ""
            case .close: element = ""
            }
        }
        return found.sorted {
            (types.firstIndex(of: $0.type) ?? types.count) < (types.firstIndex(of: $1.type) ?? types.count)
        }
    }
}

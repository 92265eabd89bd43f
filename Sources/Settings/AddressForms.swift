extension ValueForm<[SocketAddress]> {
    /// Where to listen. Port 0 lets the kernel choose.
    static let endpoints = ValueForm(
        read: { raw throws(ValueProblem) in
            var endpoints: [SocketAddress] = []
            for item in try raw.items(expected: "addresses with ports") {
                let text = try item.single(expected: "an address with its port, in quotes, such as \"[::]:3478\"")
                let endpoint = try endpoint(text, at: item)
                if endpoints.contains(endpoint), endpoint.port != 0 {
                    throw ValueProblem("\(endpoint) is listed twice; remove one", at: item)
                }
                endpoints.append(endpoint)
            }
            return endpoints
        },
        show: { .list($0.map(\.description)) }
    )

    /// Second addresses for NAT behaviour discovery: one for each family at most, and what a client can be told.
    static let alternates = ValueForm(
        read: { raw throws(ValueProblem) in
            var alternates: [SocketAddress] = []
            for item in try raw.items(expected: "addresses with ports") {
                let text = try item.single(expected: "an address with its port, such as 203.0.113.11:3479")
                let alternate = try endpoint(text, at: item)
                if alternate.host.isUnspecified {
                    throw ValueProblem(
                        "\(alternate) is no single address; write the second address of this machine, "
                            + "such as 203.0.113.11:3479",
                        at: item
                    )
                }
                if alternate.port == 0 {
                    throw ValueProblem("\(alternate) has no fixed port; write one such as 3479", at: item)
                }
                if let other = alternates.first(where: { $0.isIPv4 == alternate.isIPv4 }) {
                    let family = alternate.isIPv4 ? "IPv4" : "IPv6"
                    throw ValueProblem(
                        "\(other) and \(alternate) are both \(family); write one for each family",
                        at: item
                    )
                }
                alternates.append(alternate)
            }
            return alternates
        },
        show: { .list($0.map(\.description)) }
    )

    /// Other servers. Port 0 stands for the port that the client came to.
    static let alternateServers = ValueForm(
        read: { raw throws(ValueProblem) in
            var servers: [SocketAddress] = []
            for item in try raw.items(expected: "addresses of other servers") {
                let text = try item.single(expected: "an address, or one with its port, such as \"192.0.2.7:3478\"")
                let server = try alternate(text, at: item)
                if servers.contains(server) {
                    throw ValueProblem("\(shown(text)) is listed twice; remove one", at: item)
                }
                servers.append(server)
            }
            return servers
        },
        show: { .list($0.map { $0.port == 0 ? $0.host.description : $0.description }) }
    )

    private static func alternate(_ text: String, at raw: RawValue) throws(ValueProblem) -> SocketAddress {
        let server: SocketAddress
        if let host = HostAddress(text) {
            server = SocketAddress(host: host, port: 0)
        } else {
            server = try endpoint(text, at: raw)
            if server.port == 0 { throw ValueProblem("\(shown(text)) has port 0; leave the port out", at: raw) }
        }
        if let reason = server.host.reasonUnfit(mayBeUnspecified: true) {
            throw ValueProblem("\(shown(text)) \(reason)", at: raw)
        }
        if server.host.isUnspecified {
            throw ValueProblem("\(shown(text)) is the unspecified address; write that of another server", at: raw)
        }
        return server
    }

    private static func endpoint(_ text: String, at raw: RawValue) throws(ValueProblem) -> SocketAddress {
        let mend = "write 0.0.0.0:3478 or \"[::]:3478\""
        if HostAddress(text) != nil || HostAddress(text.dropFirst().dropLast()) != nil {
            throw ValueProblem("\(shown(text)) has no port; \(mend)", at: raw)
        }
        guard let colon = text.lastIndex(of: ":") else {
            throw ValueProblem("\(shown(text)) is no address with a port; \(mend)", at: raw)
        }
        let portText = text[text.index(after: colon)...]
        guard let port = AddressText.decimal(portText, atMost: 65535) else {
            throw ValueProblem(
                "\(shown(text)) has no valid port: \(shown(String(portText))) is no number from 0 to 65535",
                at: raw
            )
        }
        let hostText = text[..<colon]
        let isBracketed = hostText.hasPrefix("[") && hostText.hasSuffix("]")
        guard let host = HostAddress(isBracketed ? hostText.dropFirst().dropLast() : hostText),
            host.isIPv4 != isBracketed
        else {
            throw ValueProblem("\(shown(text)) is no IP address with a port; \(mend)", at: raw)
        }
        if let reason = host.reasonUnfit(mayBeUnspecified: true) {
            throw ValueProblem("\(shown(text)) \(reason)", at: raw)
        }
        return SocketAddress(host: host, port: UInt16(truncatingIfNeeded: port))
    }
}

extension ValueForm<[AddressRange]> {
    static let deniedRanges = ValueForm(read: readRanges, show: { .list(AddressRange.texts($0)) })

    /// An entry that lies wholly where nothing can be opened is refused. One that is wider is not: it opens the rest.
    static let allowedRanges = ValueForm(
        read: { raw throws(ValueProblem) in
            try readRanges(raw) { (range, item) throws(ValueProblem) in
                guard let closed = ClosedRanges.reasonClosed(range) else { return }
                let place = closed.range == range ? closed.name : "\(closed.name), \(closed.range)"
                throw ValueProblem("\(range) can never be opened (\(place)); remove it", at: item)
            }
        },
        show: { .list(AddressRange.texts($0)) }
    )

    /// RFC 6052 section 2.2 knows six lengths, and keeps bits 64 to 71 zero.
    static let nat64Prefixes = ValueForm(
        read: { raw throws(ValueProblem) in
            try readRanges(raw) { (range, item) throws(ValueProblem) in
                let lengthBits = (range.lower.number ^ range.upper.number).leadingZeroBitCount
                guard !range.lower.isIPv4, [32, 40, 48, 56, 64, 96].contains(lengthBits),
                    range.description.hasSuffix("/\(lengthBits)")
                else {
                    throw ValueProblem(
                        "\(range) is no NAT64 prefix; write an IPv6 prefix of /32, /40, /48, /56, /64 or /96",
                        at: item
                    )
                }
                guard lengthBits < 96 || range.lower.low >> 56 == 0 else {
                    throw ValueProblem(
                        "\(range) has bits 64 to 71 set, which RFC 6052 keeps zero; clear them",
                        at: item
                    )
                }
            }
        },
        show: { .list(AddressRange.texts($0)) }
    )

    private static func readRanges(_ raw: RawValue) throws(ValueProblem) -> [AddressRange] {
        try readRanges(raw) { (_, _) throws(ValueProblem) in }
    }

    private static func readRanges(
        _ raw: RawValue,
        check: (AddressRange, RawValue) throws(ValueProblem) -> Void
    ) throws(ValueProblem) -> [AddressRange] {
        var ranges: [AddressRange] = []
        for item in try raw.items(expected: "address ranges") {
            let text = try item.single(expected: "an address range such as 10.0.0.0/8")
            do throws(ValueProblem) {
                let range = try AddressRange(text: text)
                let pieces = try range.withoutMappedBlock()
                try check(range, item)
                ranges += pieces
            } catch {
                throw ValueProblem(error.message, at: item)
            }
        }
        return ranges
    }
}

extension ValueForm<Settings.RelayAddresses> {
    static let relayAddresses = ValueForm(
        read: { raw throws(ValueProblem) in
            if raw.isAuto { return .auto }
            let addresses = try readAddresses(raw)
            if addresses.isEmpty {
                throw ValueProblem("is an empty list; write auto, or the addresses to relay from", at: raw)
            }
            return .list(addresses)
        },
        show: { value in
            switch value {
            case .auto: .text("auto")
            case .list(let addresses): .list(addresses.map(\.description))
            }
        }
    )
}

extension ValueForm<Settings.ExternalAddress> {
    static let externalAddress = ValueForm(
        read: { raw throws(ValueProblem) in
            if raw.isAuto { return .auto }
            let expected = "auto, an address, [IPv4, IPv6], or a list of PUBLIC/PRIVATE pairs"
            let items = try raw.items(expected: "addresses, or of PUBLIC/PRIVATE pairs")
            var pairCount = 0
            for item in items where try item.single(expected: expected).contains("/") { pairCount += 1 }
            if items.isEmpty {
                throw ValueProblem("is an empty list; write \(expected)", at: raw)
            }
            if pairCount == items.count {
                return .pairs(try readPairs(items))
            }
            if pairCount > 0 {
                throw ValueProblem("mixes addresses and PUBLIC/PRIVATE pairs; write every entry as a pair", at: raw)
            }
            let addresses = try readAddresses(raw)
            for family in [true, false] where addresses.count(where: { $0.isIPv4 == family }) > 1 {
                let name = family ? "IPv4" : "IPv6"
                throw ValueProblem("has more than one \(name) address; write PUBLIC/PRIVATE pairs", at: raw)
            }
            return .addresses(addresses)
        },
        show: { value in
            switch value {
            case .auto: .text("auto")
            case .addresses(let addresses): .list(addresses.map(\.description))
            case .pairs(let pairs): .list(pairs.map { "\($0.publicAddress)/\($0.privateAddress)" })
            }
        }
    )

    private static func readPairs(_ items: [RawValue]) throws(ValueProblem) -> [Settings.AddressPair] {
        var pairs: [Settings.AddressPair] = []
        for item in items {
            let text = try item.single(expected: "PUBLIC/PRIVATE")
            let sides = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            let publicAddress = try readAddress(String(sides.first ?? ""), at: item)
            let privateAddress = try readAddress(String(sides.last ?? ""), at: item)
            guard publicAddress.isIPv4 == privateAddress.isIPv4 else {
                throw ValueProblem("\(shown(text)) pairs addresses of two families; pair IPv4 with IPv4", at: item)
            }
            if pairs.contains(where: { $0.privateAddress == privateAddress }) {
                throw ValueProblem("the private address \(privateAddress) is in two pairs; remove one", at: item)
            }
            pairs.append(.init(publicAddress: publicAddress, privateAddress: privateAddress))
        }
        return pairs
    }
}

extension RawValue {
    fileprivate var isAuto: Bool {
        switch shape {
        case .scalar("auto"), .text("auto"): true
        default: false
        }
    }
}

extension HostAddress {
    /// Why a socket cannot have this address, or nobody could use it if it had; nil where neither holds.
    fileprivate func reasonUnfit(mayBeUnspecified: Bool) -> String? {
        if isMappedIPv6 { return "is v4-mapped; write it as IPv4: \(HostAddress(v4: v4))" }
        if isMulticast { return "is multicast; write an address of this machine" }
        if isUnspecified, !mayBeUnspecified { return "is the unspecified address; write auto, or one address" }
        if isLinkLocalIPv6 { return "is link-local, which means nothing beyond its link; write another address" }
        if isIPv4, v4 == UInt32.max { return "is the broadcast address; write an address of this machine" }
        return nil
    }
}

private func readAddresses(_ raw: RawValue) throws(ValueProblem) -> [HostAddress] {
    var addresses: [HostAddress] = []
    for item in try raw.items(expected: "addresses") {
        let address = try readAddress(try item.single(expected: "an IP address"), at: item)
        if addresses.contains(address) {
            throw ValueProblem("\(address) is listed twice; remove one", at: item)
        }
        addresses.append(address)
    }
    return addresses
}

private func readAddress(_ text: String, at raw: RawValue) throws(ValueProblem) -> HostAddress {
    guard let address = HostAddress(text) else {
        throw ValueProblem("\(shown(text)) is no IP address; write one such as 203.0.113.10 or 2001:db8::10", at: raw)
    }
    if let reason = address.reasonUnfit(mayBeUnspecified: false) {
        throw ValueProblem("\(shown(text)) \(reason)", at: raw)
    }
    return address
}

import STUN

/// A port of this host, as its gateway may map it.
package struct InternalPort: Hashable, Sendable {
    /// IANA's protocol numbers, which PCP has on the wire.
    package enum Transport: UInt8, Hashable, Sendable {
        case tcp = 6
        case udp = 17
    }

    package var transport: Transport
    package var port: UInt16

    package init(_ transport: Transport, _ port: UInt16) { (self.transport, self.port) = (transport, port) }
}

package enum PortMappingProtocol: String, Hashable, Sendable, CaseIterable {
    case pcp = "PCP"
    case natPMP = "NAT-PMP"
    case upnp = "UPnP"
}

/// What the gateway lets in, from anybody, and gives to this host.
package struct PortMapping: Hashable, Sendable {
    package var port: InternalPort
    package var external: Endpoint
    package var by: PortMappingProtocol
    /// 0: until it is taken back.
    package var lifetimeSeconds: UInt32

    package init(port: InternalPort, external: Endpoint, by: PortMappingProtocol, lifetimeSeconds: UInt32) {
        (self.port, self.external, self.by, self.lifetimeSeconds) = (port, external, by, lifetimeSeconds)
    }

    /// The gateway is itself behind a NAT, which knows nothing of the mapping: no packet from the world arrives.
    package var isBehindAnotherNAT: Bool { !external.address.isReachedFromTheWorld }
}

/// Why a gateway maps nothing.
package enum PortMappingFailure: Hashable, Sendable {
    case unsupportedVersion, notAuthorized, malformedRequest, unsupportedOpcode, unsupportedOption, malformedOption
    case networkFailure, noResources, unsupportedProtocol, quotaExceeded, cannotProvideExternal, addressMismatch
    case conflict
    /// A code that is not known here.
    case other(UInt16)
    /// What came is not what was asked for.
    case badAnswer

    /// RFC 6887 section 7.4.
    init(pcp code: UInt8) {
        self =
            switch code {
            case 1: .unsupportedVersion
            case 2: .notAuthorized
            case 3: .malformedRequest
            case 4: .unsupportedOpcode
            case 5: .unsupportedOption
            case 6: .malformedOption
            case 7: .networkFailure
            case 8: .noResources
            case 9: .unsupportedProtocol
            case 10: .quotaExceeded
            case 11: .cannotProvideExternal
            case 12: .addressMismatch
            default: .other(UInt16(code))
            }
    }

    /// RFC 6886 section 3.5.
    init(natPMP code: UInt16) {
        self =
            switch code {
            case 1: .unsupportedVersion
            case 2: .notAuthorized
            case 3: .networkFailure
            case 4: .noResources
            case 5: .unsupportedOpcode
            default: .other(code)
            }
    }

    /// WANIPConnection:2 section 2.5, and UPnP's own codes below 700.
    init(upnp code: UInt16) {
        self =
            switch code {
            case 401: .unsupportedOpcode
            case 402: .malformedRequest
            case 606: .notAuthorized
            case 718: .conflict
            case 728: .noResources
            default: .other(code)
            }
    }

    /// It may be otherwise in half a minute (RFC 6887 section 7.4).
    var isShort: Bool {
        switch self {
        case .networkFailure, .noResources, .quotaExceeded, .cannotProvideExternal: true
        default: false
        }
    }

    package var words: String {
        switch self {
        case .unsupportedVersion: "it speaks another version"
        case .notAuthorized: "it is switched off, or this host may not; allow it in the router's settings"
        case .malformedRequest: "it does not understand the request"
        case .unsupportedOpcode: "it maps no ports"
        case .unsupportedOption, .malformedOption: "it does not understand an option"
        case .networkFailure: "the router has no connection, or no public address"
        case .noResources: "the router's table is full"
        case .unsupportedProtocol: "it does not map this transport"
        case .quotaExceeded: "this host has as many mappings as it may"
        case .cannotProvideExternal: "the port is not to be had"
        case .addressMismatch: "there is another NAT between this host and the router"
        case .conflict: "every port that was tried is taken"
        case .other(let code): "it refuses with code \(code)"
        case .badAnswer: "its answer makes no sense"
        }
    }
}

/// What is known of one protocol at the gateway.
package enum PortMappingAvailability: Hashable, Sendable {
    case unknown, available, silent
    case refused(PortMappingFailure)
}

/// What was found out at one gateway.
package struct PortMappingReport: Equatable, Sendable {
    package var gateway: IPAddress
    package var pcp = PortMappingAvailability.unknown
    package var natPMP = PortMappingAvailability.unknown
    package var upnp = PortMappingAvailability.unknown
    /// The gateway's outside address, by its own account.
    package var externalAddress: IPAddress?
    package var mappings: [PortMapping] = []

    package init(gateway: IPAddress) { self.gateway = gateway }

    /// Every protocol has answered, or has been given up.
    package var isSettled: Bool { ![pcp, natPMP, upnp].contains(.unknown) }
}

/// What the owner of the sockets does for a machine of port mapping, and what it is told.
package enum PortMappingAction: Equatable {
    /// From the socket that is bound to the address which the gateway knows this host by.
    case send([UInt8], to: Endpoint)
    /// A TCP connection on which the request goes out. What comes back is told under the number, and so is its end.
    case exchange(Int, with: Endpoint, request: [UInt8])
    /// Nobody waits for the exchange any more.
    case abandon(Int)
    /// A new mapping, or another external endpoint for one.
    case granted(PortMapping)
    case lost(InternalPort)
    /// All mappings were given back, or nobody waits for that any more.
    case released
}

extension IPAddress {
    /// Whether packets of other networks get there: none of RFC 1918, 6598, 3927, 1122 or multicast. Documentation
    /// ranges are what laboratories have for the world.
    package var isReachedFromTheWorld: Bool {
        guard isIPv4 else { return high >> 61 == 1 }
        let (first, second) = (v4 >> 24, v4 >> 16 & 0xFF)
        switch first {
        case 0, 10, 127, 224...: return false
        case 100: return second & 0xC0 != 64
        case 169: return second != 254
        case 172: return second & 0xF0 != 16
        case 192: return second != 168
        default: return true
        }
    }
}

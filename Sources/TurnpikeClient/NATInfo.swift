import Traversal

/// A NAT's kind, by the names of the original.
public enum NATType: String, Sendable, Hashable, Codable, CaseIterable {
    /// No address is translated.
    case open = "Open"
    /// One outside address for all destinations, open to everybody.
    case fullCone = "Full Cone"
    /// One outside address, open to addresses that were sent to.
    case restricted = "Restricted"
    /// One outside address, open to addresses and ports that were sent to: the usual home router.
    case portRestricted = "Port-Restricted"
    /// Another outside address for each destination.
    case symmetric = "Symmetric"
    /// No datagram gets out, or none back.
    case blocked = "Blocked"
    /// Not found out; `NATInfo.unknownBecause` says why.
    case unknown = "Unknown"
}

/// What is known of the NATs between this host and the servers; `P2PCoordinator.getNATInfo()`.
public struct NATInfo: Sendable, Hashable, Codable {
    /// The kind of the NAT.
    public var type: NATType
    /// Why the kind is not known; `nil` where it is.
    public var unknownBecause: String?
    /// The address that servers see.
    public var publicIP: String?
    /// The port that servers see of the socket that was asked with.
    public var publicPort: Int?
    /// The socket's own address and port.
    public var localAddress: String?
    /// On what the outside address depends (RFC 4787 section 4.1): `endpoint-independent`, `address-dependent`,
    /// `address-and-port-dependent` or `endpoint-dependent`.
    public var mapping: String?
    /// Whose packets are let in (RFC 4787 section 5): `endpoint-independent`, `address-dependent` or
    /// `address-and-port-dependent`.
    public var filtering: String?
    /// Whether two hosts behind the NAT reach each other by their outside addresses.
    public var hairpin: Bool?
    /// Where nothing is translated: whether packets that were not asked for are kept out all the same.
    public var firewalled: Bool?
    /// How outside ports are chosen: `preserving`, `sequential`, `chunked` or `random`.
    public var portAllocation: String?
    /// The step between outside ports that are given out one after the other.
    public var portStep: Int?
    /// How long a mapping lives without traffic, in seconds at least: known half a minute after the start, and looked
    /// at up to 33 s, for keep-alives need no more.
    public var lifetimeAtLeastSeconds: Int?
    /// And below how many seconds; `nil` where it outlived the longest test.
    public var lifetimeBelowSeconds: Int?
    /// What the gateway does for this host when it is asked; `nil` where there is none to ask, or nobody asked.
    public var portMapping: PortMappingInfo?

    /// The kind of NAT that peers meet. Behind a port that the gateway has mapped everybody gets in, whatever the NAT
    /// is otherwise.
    public var typeForPeers: NATType {
        guard portMapping?.isUsable == true else { return type }
        switch type {
        case .restricted, .portRestricted, .symmetric: return .fullCone
        case .open, .fullCone, .blocked, .unknown: return type
        }
    }

    /// What the NAT does with TCP; `nil` where it was not found out.
    public var tcp: TCPNATInfo?

    /// Nothing is known.
    init(unknownBecause reason: String) {
        type = .unknown
        unknownBecause = reason
    }

    init(_ report: NATReport) {
        switch report.name {
        case .determined(let name): type = NATType(name)
        case .undetermined(let reason): (type, unknownBecause) = (.unknown, reason)
        }
        publicIP = report.mapped.map { AddressText.text($0.address) }
        publicPort = report.mapped.map { Int($0.port) }
        localAddress = report.local.map { AddressText.text($0) }
        mapping = report.mapping.value.map(Self.text)
        filtering = report.filtering.value.map(Self.text)
        hairpin = report.hairpin.value
        firewalled = report.isFirewalled.value
        (portAllocation, portStep) = Self.words(report.allocation.value)
        lifetimeAtLeastSeconds = (report.lifetime.value?.atLeastSeconds).map { Int(clamping: $0) }
        lifetimeBelowSeconds = (report.lifetime.value?.lessThanSeconds).map { Int(clamping: $0) }
    }

    /// The lifetime becomes known bit by bit, over minutes.
    func differsInLifetimeAlone(from other: NATInfo) -> Bool {
        var same = self
        (same.lifetimeAtLeastSeconds, same.lifetimeBelowSeconds) = (
            other.lifetimeAtLeastSeconds, other.lifetimeBelowSeconds
        )
        return same == other && self != other
    }

    fileprivate static func text(_ mapping: NATMapping) -> String {
        switch mapping {
        case .endpointIndependent: "endpoint-independent"
        case .addressDependent: "address-dependent"
        case .addressAndPortDependent: "address-and-port-dependent"
        case .endpointDependent: "endpoint-dependent"
        }
    }

    fileprivate static func words(_ allocation: NATPortAllocation?) -> (String?, Int?) {
        switch allocation {
        case .preserving: ("preserving", nil)
        case .sequential(let step): ("sequential", step)
        case .chunked: ("chunked", nil)
        case .random: ("random", nil)
        case nil: (nil, nil)
        }
    }

    private static func text(_ filtering: NATFiltering) -> String {
        switch filtering {
        case .endpointIndependent: "endpoint-independent"
        case .addressDependent: "address-dependent"
        case .addressAndPortDependent: "address-and-port-dependent"
        }
    }
}

/// What is known of the NATs between this host and the servers as far as TCP goes.
public struct TCPNATInfo: Sendable, Hashable, Codable {
    /// The address that servers see.
    public var publicIP: String?
    /// The port that servers see of the one that was asked from.
    public var publicPort: Int?
    /// On what the outside address depends, in the words of `NATInfo.mapping`; `nil` where it is not known.
    public var mapping: String?
    /// How outside ports are chosen, in the words of `NATInfo.portAllocation`; `nil` where they do not depend on the
    /// destination, or it is not known.
    public var portAllocation: String?
    /// The step between outside ports that are given out one after the other; `nil` where they are not. A peer aims at
    /// the next ones.
    public var portStep: Int?
    /// What becomes of a connection that nobody asked for: `accepted`, `dropped` or `refused`; `nil` where it is not
    /// known.
    public var unsolicited: String?

    init(_ report: StreamNATReport) {
        publicIP = report.mapped.map { AddressText.text($0.address) }
        publicPort = report.mapped.map { Int($0.port) }
        mapping = report.mapping.value.map(NATInfo.text)
        (portAllocation, portStep) = NATInfo.words(report.allocation)
        unsolicited = report.unsolicited.value?.rawValue
    }
}

extension NATType {
    init(_ name: NATName) {
        self =
            switch name {
            case .open: .open
            case .fullCone: .fullCone
            case .restricted: .restricted
            case .portRestricted: .portRestricted
            case .symmetric: .symmetric
            case .blocked: .blocked
            }
    }
}

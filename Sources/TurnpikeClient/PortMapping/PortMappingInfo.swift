import Traversal

/// What the gateway does for this host when it is asked to map a port; `NATInfo.portMapping`.
public struct PortMappingInfo: Sendable, Hashable, Codable {
    /// What is known of a protocol.
    public enum Availability: String, Sendable, Hashable, Codable {
        /// It was not asked, or has not answered yet.
        case unknown
        /// It answers.
        case available
        /// It does not answer.
        case silent
        /// It answers that it does not do it.
        case refused
    }

    /// The gateway that was asked.
    public var gateway: String
    /// The Port Control Protocol (RFC 6887).
    public var pcp: Availability
    /// The NAT Port Mapping Protocol (RFC 6886).
    public var natPMP: Availability
    /// UPnP's Internet Gateway Device.
    public var upnp: Availability
    /// By which of them the port is mapped: `PCP`, `NAT-PMP` or `UPnP`; `nil` where it is not.
    public var mappedBy: String?
    /// The port of this host that is mapped.
    public var internalPort: Int?
    /// The gateway's outside address, by its own account.
    public var externalIP: String?
    /// The port that peers reach.
    public var externalPort: Int?
    /// For how long it was mapped; it is renewed at half time. 0: until it is taken back.
    public var lifetimeSeconds: Int?
    /// The gateway is behind a NAT itself, so what it maps nobody in the world can reach.
    public var isBehindAnotherNAT: Bool
    /// Why nothing is mapped, or why what is mapped is of no use, and what helps; `nil` where all is well.
    public var problem: String?

    /// Peers reach this host by the mapping.
    public var isUsable: Bool { mappedBy != nil && !isBehindAnotherNAT }

    /// Where peers reach this host by the mapping, if they do.
    var usableEndpoint: String? {
        guard isUsable, let externalIP, let externalPort else { return nil }
        return "\(externalIP):\(externalPort)"
    }

    /// - Parameter publicIP: the address that STUN servers see.
    package init(_ report: PortMappingReport, publicIP: String?) {
        gateway = AddressText.text(report.gateway)
        pcp = Availability(report.pcp)
        natPMP = Availability(report.natPMP)
        upnp = Availability(report.upnp)
        let external = report.externalAddress.map { AddressText.text($0) }
        externalIP = external
        let isPrivate = report.externalAddress.map { !$0.isReachedFromTheWorld } ?? false
        let isOther = external.flatMap { external in publicIP.map { $0 != external } } ?? false
        isBehindAnotherNAT = isPrivate || isOther
        if let mapping = report.mappings.first {
            mappedBy = mapping.by.rawValue
            internalPort = Int(mapping.port.port)
            externalIP = AddressText.text(mapping.external.address)
            externalPort = Int(mapping.external.port)
            lifetimeSeconds = Int(mapping.lifetimeSeconds)
        }
        problem = Self.problem(report, external, publicIP, isBehindAnotherNAT)
    }

    private static func problem(
        _ report: PortMappingReport,
        _ external: String?,
        _ publicIP: String?,
        _ isBehindAnotherNAT: Bool
    ) -> String? {
        if isBehindAnotherNAT {
            let seen = publicIP.map { ", and servers see \($0)" } ?? ""
            return "two NATs are in a row: the gateway's outside address is \(external ?? "not known")\(seen); what it "
                + "maps is not reached from outside, unless the other NAT (a second router, or the provider's) maps it "
                + "too"
        }
        if !report.mappings.isEmpty { return nil }
        let answers = [("PCP", report.pcp), ("NAT-PMP", report.natPMP), ("UPnP", report.upnp)]
        let refusals = answers.compactMap { name, answer -> String? in
            guard case .refused(let failure) = answer else { return nil }
            return "\(name): \(failure.words)"
        }
        if !refusals.isEmpty { return refusals.joined(separator: "; ") }
        if answers.allSatisfy({ $0.1 == .silent }) {
            return "the gateway maps no ports; switch UPnP or NAT-PMP on in the router's settings"
        }
        return nil
    }
}

extension PortMappingInfo.Availability {
    init(_ availability: PortMappingAvailability) {
        self =
            switch availability {
            case .unknown: .unknown
            case .available: .available
            case .silent: .silent
            case .refused: .refused
            }
    }
}

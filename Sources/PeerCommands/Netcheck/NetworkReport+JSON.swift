import TurnpikeClient

/// The report for programs. Keys stay; new ones may come.
extension NetworkReport {
    package func json() throws -> String { try JSON.text(Document(self)) }

    private struct Document: Encodable {
        let works: Bool
        let natType: OrNull<String>
        let ipv4: FamilyDocument
        let ipv6: FamilyDocument
        let portMapping: OrNull<MappingDocument>
        let tcp: StreamDocument
        let stunServers: [StunDocument]
        let turnServers: [RelayDocument]
        let signalingServer: OrNull<SignalingDocument>
        let peers: [PeerDocument]
        let issues: [String]
        let verdict: String
        let tookSeconds: Double

        init(_ report: NetworkReport) {
            works = report.works
            natType = OrNull(report.leading.nat?.name.value?.word)
            ipv4 = FamilyDocument(report.ipv4)
            ipv6 = FamilyDocument(report.ipv6)
            portMapping = OrNull(report.portMapping.map(MappingDocument.init))
            tcp = StreamDocument(report.tcp)
            stunServers =
                report.stunServers.map { StunDocument(server: AddressText.text($0.endpoint), works: $0.answers) }
                + report.unasked.map {
                    StunDocument(server: $0.url, works: false, problem: ProblemDocument($0.problem))
                }
            turnServers = report.relays.map(RelayDocument.init)
            signalingServer = OrNull(report.signaling.map(SignalingDocument.init))
            peers = report.outlook.map { PeerDocument(natType: $0.peer.word, $0.way, $0.explanation) }
            issues = report.issues
            verdict = Verdict(report).text
            tookSeconds = (Double(report.tookNanoseconds) / 1e9).thousandths
        }
    }

    private struct FamilyDocument: Encodable {
        let available: Bool
        let natType: OrNull<String>
        let publicAddress: OrNull<String>
        let localAddress: OrNull<String>
        let mapping: OrNull<String>
        let filtering: OrNull<String>
        let hairpin: OrNull<Bool>
        let portAllocation: OrNull<String>
        let portStep: OrNull<Int>
        let firewalled: OrNull<Bool>
        let lifetimeAtLeastSeconds: OrNull<UInt64>
        let lifetimeBelowSeconds: OrNull<UInt64>
        let roundTripMilliseconds: OrNull<Double>
        /// Why what is null above is not known.
        let unknownBecause: [String: String]

        init(_ family: Family) {
            let nat = family.nat
            available = nat?.mapped != nil
            natType = OrNull(nat?.name.value?.word)
            publicAddress = OrNull(nat?.mapped.map { AddressText.text($0) })
            localAddress = OrNull(nat?.local.map { AddressText.text($0) })
            mapping = OrNull(nat?.mapping.value?.code)
            filtering = OrNull(nat?.filtering.value?.code)
            hairpin = OrNull(nat?.hairpin.value)
            portAllocation = OrNull(nat?.allocation.value?.code)
            portStep = OrNull(nat?.allocation.value?.step)
            firewalled = OrNull(nat?.isFirewalled.value)
            lifetimeAtLeastSeconds = OrNull(nat?.lifetime.value?.atLeastSeconds)
            lifetimeBelowSeconds = OrNull(nat?.lifetime.value?.lessThanSeconds)
            roundTripMilliseconds = OrNull((nat?.roundTripNanoseconds).map { (Double($0) / 1e6).thousandths })
            var reasons: [String: String] = [:]
            if let nat {
                reasons["natType"] = nat.name.reason
                reasons["mapping"] = nat.mapping.reason
                reasons["filtering"] = nat.filtering.reason
                reasons["hairpin"] = nat.hairpin.reason
                reasons["portAllocation"] = nat.allocation.reason
                reasons["firewalled"] = nat.isFirewalled.reason
                reasons["lifetime"] = nat.lifetime.reason
            } else {
                reasons["natType"] = family.absence
            }
            unknownBecause = reasons
        }
    }

    /// What is to be expected of a peer behind a NAT of that kind.
    private struct PeerDocument: Encodable {
        let natType: String
        let direct: Bool
        /// `direct`, `guessed` or `relay`.
        let way: String
        let cause: String
        let reason: String
        let advice: String

        init(natType: String, _ way: Way, _ explanation: Explanation) {
            self.way = way.rawValue
            (self.natType, direct, cause) = (natType, explanation.isDirect, explanation.cause.rawValue)
            (reason, advice) = (explanation.reason, explanation.advice)
        }
    }

    private struct MappingDocument: Encodable {
        let gateway: String
        let pcp: String
        let natPMP: String
        let upnp: String
        let mappedBy: OrNull<String>
        let externalAddress: OrNull<String>
        let externalPort: OrNull<Int>
        let lifetimeSeconds: OrNull<Int>
        let isBehindAnotherNAT: Bool
        let problem: OrNull<String>

        init(_ mapping: PortMappingInfo) {
            gateway = mapping.gateway
            (pcp, natPMP, upnp) = (mapping.pcp.rawValue, mapping.natPMP.rawValue, mapping.upnp.rawValue)
            mappedBy = OrNull(mapping.mappedBy)
            externalAddress = OrNull(mapping.externalIP)
            externalPort = OrNull(mapping.externalPort)
            lifetimeSeconds = OrNull(mapping.lifetimeSeconds)
            isBehindAnotherNAT = mapping.isBehindAnotherNAT
            problem = OrNull(mapping.problem)
        }
    }

    private struct StreamDocument: Encodable {
        let publicAddress: OrNull<String>
        let localAddress: OrNull<String>
        let mapping: OrNull<String>
        /// Where they depend on the destination.
        let portAllocation: OrNull<String>
        let portStep: OrNull<Int>
        /// What becomes of a connection that nobody asked for.
        let unsolicited: OrNull<String>
        let unknownBecause: [String: String]

        init(_ report: StreamNATReport?) {
            publicAddress = OrNull((report?.mapped).map { AddressText.text($0) })
            localAddress = OrNull((report?.local).map { AddressText.text($0) })
            mapping = OrNull(report?.mapping.value?.code)
            portAllocation = OrNull(report?.allocation?.code)
            portStep = OrNull(report?.allocation?.step)
            unsolicited = OrNull(report?.unsolicited.value?.rawValue)
            let late = "it was not found out in time"
            var reasons: [String: String] = [:]
            reasons["mapping"] = report == nil ? late : report?.mapping.reason
            reasons["unsolicited"] = report == nil ? late : report?.unsolicited.reason
            unknownBecause = reasons
        }
    }

    private struct StunDocument: Encodable {
        let server: String
        let works: Bool
        var problem = OrNull<ProblemDocument>(nil)

        init(server: String, works: Bool, problem: ProblemDocument? = nil) {
            (self.server, self.works, self.problem) = (server, works, OrNull(problem))
        }
    }

    private struct RelayDocument: Encodable {
        let url: String
        let transport: String
        let address: OrNull<String>
        /// Answers came, whatever they said.
        let reached: Bool
        let works: Bool
        let roundTripMilliseconds: OrNull<Double>
        let relayedAddresses: [String]
        let problem: OrNull<ProblemDocument>

        init(_ relay: Relay) {
            url = relay.url
            transport = relay.transport.word
            address = OrNull(relay.address.map { AddressText.text($0) })
            if case .failed = relay.outcome { reached = false } else { reached = true }
            works = relay.works
            roundTripMilliseconds = OrNull(relay.roundTripNanoseconds.map { (Double($0) / 1e6).thousandths })
            if case .works(_, let relayed) = relay.outcome {
                relayedAddresses = relayed.map { AddressText.text($0) }
            } else {
                relayedAddresses = []
            }
            problem = OrNull(relay.problem.map(ProblemDocument.init))
        }
    }

    private struct SignalingDocument: Encodable {
        let url: String
        let address: OrNull<String>
        let reached: Bool
        /// It has let this user in.
        let works: Bool
        let roundTripMilliseconds: OrNull<Double>
        /// The version.
        let tls: OrNull<String>
        let problem: OrNull<ProblemDocument>

        init(_ signaling: Signaling) {
            url = signaling.url.description
            address = OrNull((signaling.way?.server).map { AddressText.text($0) })
            (reached, works) = (signaling.way != nil, signaling.problem == nil)
            roundTripMilliseconds = OrNull((signaling.way?.roundTripNanoseconds).map { (Double($0) / 1e6).thousandths })
            tls = OrNull(signaling.way?.tls)
            problem = OrNull(signaling.problem.map(ProblemDocument.init))
        }
    }

    private struct ProblemDocument: Encodable {
        let code: String
        let message: String
        let mend: OrNull<String>

        init(_ problem: Problem) {
            (code, message, mend) = (problem.code.rawValue, problem.message, OrNull(problem.mend))
        }
    }
}

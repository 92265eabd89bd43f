import Signaling
import Traversal

/// The members of `signal` messages of kind "punch". Each has a `step`; addresses are text, ports and attempts numbers.
enum PunchWire {
    static let report = "report"
    /// Of a report that was told before and not answered with the peer's own, which is to come again.
    static let again = "again"

    // MARK: To the peer

    static func members(_ report: PunchReport) -> [String: JSONValue] {
        var members: [String: JSONValue] = [
            "step": .string(self.report),
            "mapping": .string(report.mapping.rawValue),
            "filtering": .string(report.filtering.rawValue),
            "address": .string(AddressText.text(report.address)),
            "wish": .string(report.wish.rawValue),
        ]
        switch report.allocation {
        case .preserving: members["allocation"] = .string("preserving")
        case .sequential(let step):
            members["allocation"] = .string("sequential")
            members["stride"] = .number(Double(step))
        case .chunked(let block):
            members["allocation"] = .string("chunked")
            members["low"] = .number(Double(block.lowerBound))
            members["high"] = .number(Double(block.upperBound))
        case .random: members["allocation"] = .string("random")
        case nil: break
        }
        return members
    }

    static func members(_ message: PunchMessage) -> [String: JSONValue] {
        switch message {
        case .ready(let attempt, let endpoint): members("ready", attempt, endpoint)
        case .opened(let attempt, let address, .list(let ports)):
            members("opened", attempt, address).merging(["ports": .array(ports.map { .number(Double($0)) })]) { $1 }
        case .opened(let attempt, let address, .range(let range)):
            members("opened", attempt, address).merging([
                "low": .number(Double(range.lowerBound)), "high": .number(Double(range.upperBound)),
            ]) { $1 }
        case .measure(let attempt): ["step": .string("measure"), "attempt": .number(Double(attempt))]
        case .base(let attempt, let endpoint): members("base", attempt, endpoint)
        case .cancel: ["step": .string("cancel")]
        }
    }

    private static func members(_ step: String, _ attempt: UInt32, _ address: IPAddress) -> [String: JSONValue] {
        [
            "step": .string(step), "attempt": .number(Double(attempt)), "address": .string(AddressText.text(address)),
        ]
    }

    private static func members(_ step: String, _ attempt: UInt32, _ endpoint: Endpoint) -> [String: JSONValue] {
        members(step, attempt, endpoint.address).merging(["port": .number(Double(endpoint.port))]) { $1 }
    }

    // MARK: From the peer

    /// - Returns: nil for what is no report; words that are not known count as what is not known.
    static func report(_ payload: JSONValue) -> PunchReport? {
        guard let address = address(payload), PunchTarget.isAllowed(address),
            let wish = payload["wish"]?.string.flatMap({ PunchReport.Wish(rawValue: $0) })
        else { return nil }
        return PunchReport(
            mapping: payload["mapping"]?.string.flatMap { PunchReport.Mapping(rawValue: $0) } ?? .unknown,
            filtering: payload["filtering"]?.string.flatMap { PunchReport.Filtering(rawValue: $0) } ?? .unknown,
            allocation: allocation(payload),
            address: address,
            wish: wish
        )
    }

    private static func allocation(_ payload: JSONValue) -> NATPortAllocation? {
        switch payload["allocation"]?.string {
        case "preserving": .preserving
        case "sequential":
            payload["stride"]?.number.flatMap { Int8(exactly: $0) }.flatMap {
                $0 == 0 ? nil : .sequential(step: Int($0))
            }
        case "chunked": range(payload).map { .chunked($0) }
        case "random": .random
        default: nil
        }
    }

    static func message(_ payload: JSONValue) -> PunchMessage? {
        guard let step = payload["step"]?.string else { return nil }
        if step == "cancel" { return .cancel }
        guard let attempt = payload["attempt"]?.number.flatMap({ UInt32(exactly: $0) }) else { return nil }
        switch step {
        case "ready": return endpoint(payload).map { .ready(attempt: attempt, at: $0) }
        case "opened":
            guard let address = address(payload), let ports = ports(payload) else { return nil }
            return .opened(attempt: attempt, at: address, ports)
        case "measure": return .measure(attempt: attempt)
        case "base": return endpoint(payload).map { .base(attempt: attempt, at: $0) }
        default: return nil
        }
    }

    private static func ports(_ payload: JSONValue) -> PunchPorts? {
        if let list = payload["ports"]?.array {
            return .list(list.prefix(PunchLimits.guesses).compactMap { port($0) })
        }
        return range(payload).map { .range($0) }
    }

    private static func range(_ payload: JSONValue) -> ClosedRange<UInt16>? {
        guard let low = port(payload["low"]), let high = port(payload["high"]), low <= high else { return nil }
        return low...high
    }

    private static func endpoint(_ payload: JSONValue) -> Endpoint? {
        guard let address = address(payload), let port = port(payload["port"]) else { return nil }
        return Endpoint(address: address, port: port)
    }

    private static func address(_ payload: JSONValue) -> IPAddress? {
        payload["address"]?.string.flatMap { AddressText.address($0) }
    }

    private static func port(_ value: JSONValue?) -> UInt16? {
        value?.number.flatMap { UInt16(exactly: $0) }.flatMap { $0 == 0 ? nil : $0 }
    }
}

extension PunchReport.Wish {
    init(_ punching: Configuration.SymmetricPunching) {
        self =
            switch punching {
            case .auto: .auto
            case .never: .never
            case .always: .always
            }
    }
}

/// Any object in JSON, held to what is asked of messages.
package enum JSONObject {
    /// The names of its members.
    package static func members(of text: UnsafeBufferPointer<UInt8>) throws(JSONFault) -> [String] {
        guard let base = text.baseAddress else { throw JSONFault(reason: .syntax, offset: 0) }
        var names: [String] = []
        var scanner = JSONScanner(base: base, count: text.count)
        try scanner.document { scanner, key, _ in
            names.append(String(decoding: scanner.decoded(key.start, key.end), as: UTF8.self))
        }
        return names
    }
}

/// How large a JSON text may be in what it holds.
struct JSONLimits {
    var depthMax: Int
    var membersMax: Int
    var valuesMax: Int

    static let fromClients = JSONLimits(
        depthMax: SignalingLimits.jsonDepthMax,
        membersMax: SignalingLimits.jsonMembersMax,
        valuesMax: SignalingLimits.jsonValuesMax
    )
    /// What is to stand in a message, which has some members of its own.
    static let inMessages = JSONLimits(
        depthMax: SignalingLimits.jsonDepthMax,
        membersMax: SignalingLimits.jsonMembersMax - 16,
        valuesMax: SignalingLimits.jsonValuesMax - 16
    )
    static let fromServers = JSONLimits(
        depthMax: SignalingClientLimits.jsonDepthMax,
        membersMax: SignalingClientLimits.jsonMembersMax,
        valuesMax: SignalingClientLimits.jsonValuesMax
    )
}

/// What a value of a JSON text is.
enum JSONKind: UInt8 {
    case string
    /// A string that has to be unescaped before it is compared.
    case escapedString
    case number, object, array, bool, null
}

/// Where a value stands in its text; a string with its quotes.
struct JSONSpan {
    var kind = JSONKind.null
    var start = 0
    var end = 0

    var count: Int { end &- start }
    var isString: Bool { kind == .string || kind == .escapedString }
}

/// A key where it stands in its text, without quotes, and a hash of what it says.
struct JSONKey {
    let start: Int
    let end: Int
    let isEscaped: Bool
    let hash: UInt64
}

/// Why a text is refused, and at which byte.
package struct JSONFault: Error, Equatable {
    package enum Reason: Equatable, Sendable {
        case syntax, encoding, loneSurrogate, numberOutOfRange, duplicateKey, tooDeep, tooManyMembers, tooManyValues
        case trailingBytes
    }

    package let reason: Reason
    package let offset: Int

    package var description: String {
        let what =
            switch reason {
            case .syntax: "is not JSON"
            case .encoding: "is not UTF-8"
            case .loneSurrogate: "has half a surrogate pair"
            case .numberOutOfRange: "has a number that is out of range"
            case .duplicateKey: "has a key twice"
            case .tooDeep: "is nested deeper than \(SignalingLimits.jsonDepthMax) levels"
            case .tooManyMembers: "has more than \(SignalingLimits.jsonMembersMax) members"
            case .tooManyValues: "has more than \(SignalingLimits.jsonValuesMax) values"
            case .trailingBytes: "goes on behind its end"
            }
        return "The message \(what) (byte \(offset))"
    }
}

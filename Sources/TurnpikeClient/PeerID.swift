/// The name that a peer has at the signaling server.
///
/// A user owns the ids `NAME` and `NAME/…`, so what a program registers begins with the user it signs in as.
public struct PeerID: RawRepresentable, Hashable, Comparable, Sendable, Codable {
    /// The id as it stands in messages.
    public let rawValue: String

    /// Makes an id of any text; the server says at registration whether it takes it.
    public init(rawValue: String) { self.rawValue = rawValue }

    /// Makes an id of any text.
    public init(_ text: String) { self.init(rawValue: text) }

    /// Reads an id from what `Codable` wrote: the text alone.
    public init(from decoder: any Decoder) throws {
        rawValue = try decoder.singleValueContainer().decode(String.self)
    }

    /// Writes the text alone.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }

    /// Orders ids by their UTF-8, as both ends of a connection do to decide whose offer counts.
    public static func < (left: PeerID, right: PeerID) -> Bool {
        left.rawValue.utf8.lexicographicallyPrecedes(right.rawValue.utf8)
    }
}

extension PeerID: ExpressibleByStringLiteral {
    /// Makes an id of a literal.
    public init(stringLiteral value: String) { self.init(rawValue: value) }
}

extension PeerID: CustomStringConvertible {
    /// The id as it stands in messages.
    public var description: String { rawValue }
}

import DataChannels
import Signaling

/// The part of a connection's handshakes that goes by signaling, beside an offer, beside its answer or in a `signal`:
/// records of DTLS, and the first or second message of SCTP's handshake: `{"dtls": ["Fv79…"], "sctp": "E4gT…"}`.
///
/// Browsers pass the member over, and only a peer whose descriptions have `HandshakeEnvelope.option` answers it. A
/// server in between can drop or change what it carries, and gains by it no more than by dropping the offer: every
/// certificate is held to the fingerprint of the description.
struct HandshakeFlight: Equatable {
    /// Of an offer or answer's payload.
    static let member = "handshake"
    /// The kind of a `signal` with the records of a flight that follows the answer.
    static let signalKind = "handshake"

    /// Datagrams of DTLS, each with the records of one.
    var records: [[UInt8]] = []
    /// A packet of SCTP, outside of DTLS.
    var association: [UInt8]?

    var isEmpty: Bool { records.isEmpty && association == nil }

    init(records: [[UInt8]] = [], association: [UInt8]? = nil) {
        self.records = records
        self.association = association
    }

    var members: [String: JSONValue] {
        var members = ["dtls": JSONValue.array(records.map { .string(Base64.encode($0)) })]
        if let association { members["sctp"] = .string(Base64.encode(association)) }
        return members
    }

    /// What of it is malformed or too much counts as not there. Of a flight all records do, since one lost is repaired
    /// by none of the others.
    init(_ payload: JSONValue) {
        let texts = payload["dtls"]?.array ?? []
        if texts.count <= ClientLimits.carriedRecords {
            let decoded = texts.compactMap { Self.decode($0, atMost: ClientLimits.carriedRecordBytes) }
            if decoded.count == texts.count { records = decoded }
        }
        association = payload["sctp"].flatMap { Self.decode($0, atMost: DataChannelLimits.signaledPacketBytes) }
    }

    private static func decode(_ value: JSONValue, atMost limit: Int) -> [UInt8]? {
        guard let text = value.string, text.utf8.count <= Base64.encodedBytes(limit), let bytes = Base64.decode(text),
            !bytes.isEmpty, bytes.count <= limit
        else { return nil }
        return bytes
    }
}

import DataChannels
import OpenSSLCrypto
import Traversal

/// Datagrams as long as the path takes them. SCTP's packets may be as long as the widest path's from the beginning on,
/// and data are cut for those of the path in use; what is longer than that all the same goes in pieces.
extension PeerLink {
    /// The path takes longer datagrams than before, or shorter ones.
    func fit(_ bytes: Int) {
        let isNarrower = bytes < fittedBytes
        fittedBytes = bytes
        try? association?.setSegmentLimit(segmentLimitBytes)
        emit(.datagramBytes(bytes))
        // What went in longer ones since the peer was heard has not arrived.
        if isNarrower { sendUnanswered() }
    }

    /// What was prepared for any program of this library meets one that is too old for pieces.
    func fit(_ association: DataChannelAssociation, to data: DataSection) throws(LinkProblem) {
        guard !Self.takesPieces(data) else { return }
        do throws(DataChannelError) {
            try association.setPacketLimit(packetLimitBytes(for: data))
        } catch { throw LinkProblem("\(error)") }
    }

    /// - Parameter data: nil where only programs of this library will take what comes of it.
    func packetLimitBytes(for data: DataSection?) -> Int {
        let takesPieces = data.map(Self.takesPieces) ?? true
        return Self.plaintextBytes(takesPieces ? ICELimits.longestDatagramBytes : ClientLimits.datagramBytes)
    }

    var segmentLimitBytes: Int { Self.plaintextBytes(agent.datagramBytes) }

    /// One record, in one datagram or in several.
    func send(_ record: UnsafeRawBufferPointer, to peer: Endpoint, on base: ICEBase) {
        let limit = agent.datagramBytes
        if record.count > limit, let remoteData, Self.takesPieces(remoteData) {
            nextPieces &+= 1
            let isCut = RecordPiece.cut(record, number: nextPieces, limitBytes: limit) { piece in
                context.router.send(piece, to: peer, on: base, for: self)
            }
            if isCut { return }
        }
        context.router.send(record, to: peer, on: base, for: self)
    }

    private static func takesPieces(_ data: DataSection) -> Bool {
        data.transport.iceOptions.contains(ICERemoteParameters.padding)
    }

    private static func plaintextBytes(_ datagramBytes: Int) -> Int {
        DTLSSession.plaintextLimitBytes(packetLimitBytes: datagramBytes)
    }
}

import DataChannels
import OpenSSLCrypto
import Traversal

// offerer  ── offer: ClientHello, INIT ──────────────▶  answerer
//          ◀── answer: ServerHello … Done, INIT ACK ──  SCTP stands
// may send ── signal: Certificate … Finished ────────▶  may send
//          ── by the relays, a moment later: data ───▶
//          ◀── Finished, data ───────────────────────

/// What of a link's handshakes goes by signaling (`HandshakeFlight`), and how far that has come.
///
/// Each flight takes half a round trip, so that what either end sends first is at the other before the second is over.
/// What a path or the signaling loses DTLS sends again by the path.
struct CarriedHandshake {
    /// What an offer carried, until its answer says who begins.
    struct Prepared {
        let dtls: DTLSSession
        let association: DataChannelAssociation?
        let flight: HandshakeFlight
    }

    var prepared: Prepared?
    /// Of an offer whose answer carries nothing: they go by the path.
    var hello: [[UInt8]] = []
    /// What the answer carries, each time it is told.
    var answer: HandshakeFlight?
    /// Offer and answer have carried the first two flights: those that follow may go by signaling as well.
    var isAgreed = false
    /// Both associations stand by signaling, before there is a path. Either end may use the connection's own channel.
    var hasAssociations = false
    var flightsTold = 0
    var datagramsAhead = 0
    var isPathAheadTold = false
}

extension PeerLink {
    /// Where data goes: also ahead of the path that is known to work.
    var path: ICEPath? { agent.path ?? (carried.isPathAheadTold ? agent.pathAhead : nil) }

    // MARK: The offering end

    /// What the first offer carries; nil where there is nothing to be had, or it is too late for it.
    func offerFlight() -> HandshakeFlight? {
        if let prepared = carried.prepared { return prepared.flight }
        guard isOfferer, dtls == nil, phase == .open,
            let session = try? DTLSSession(
                offering: context.identity,
                packetLimitBytes: ClientLimits.handshakeBytes,
                firstTimeoutMicroseconds: ClientLimits.handshakeTimeoutMicroseconds
            )
        else { return nil }
        session.startsEarly = true
        session.advance()
        var flight = HandshakeFlight(records: takeRecords(session))
        guard !flight.records.isEmpty else { return nil }
        let association = try? makeAssociation(.client, nil)
        flight.association = association?.makeInitiation()
        carried.prepared = CarriedHandshake.Prepared(dtls: session, association: association, flight: flight)
        return flight
    }

    /// The answer leaves the client's part to this end, which has begun it.
    func take(
        _ prepared: CarriedHandshake.Prepared,
        _ expected: [OpenSSLCrypto.CertificateFingerprint],
        _ data: DataSection,
        _ flight: HandshakeFlight
    ) throws(LinkProblem) {
        prepared.dtls.expect(expected)
        (dtls, dtlsRole) = (prepared.dtls, .client)
        guard let answer = flight.association else { return holdHello(prepared, flight) }
        context.tellTime()
        guard let association = prepared.association, let initiation = prepared.flight.association,
            data.sctpPort == association.options.remotePort, association.finish(initiation: initiation, answer: answer)
        else {
            // The peer's end stands, and no other handshake of SCTP's leads to it.
            throw LinkProblem("its part of SCTP's handshake is not the answer to ours", .signaling)
        }
        association.remoteMaxMessageBytes = data.maxMessageBytes
        try fit(association, to: data)
        self.association = association
        carried.hasAssociations = true
        holdHello(prepared, flight)
    }

    /// A peer that is the server and has not seen the hello gets it by the path.
    private func holdHello(_ prepared: CarriedHandshake.Prepared, _ flight: HandshakeFlight) {
        if flight.records.isEmpty { carried.hello = prepared.flight.records }
    }

    // MARK: The answering end

    /// Takes the part of the server, if the offer carries the client's first flight.
    /// - Returns: whether it does; otherwise this end is the client, as usual (RFC 8842 section 5.3).
    func answer(
        _ flight: HandshakeFlight,
        _ expected: [OpenSSLCrypto.CertificateFingerprint],
        _ data: DataSection
    ) -> Bool {
        guard !flight.records.isEmpty, data.transport.iceOptions.contains(HandshakeEnvelope.option),
            let session = try? DTLSSession(
                peer: .server,
                identity: context.identity,
                expecting: expected,
                packetLimitBytes: ClientLimits.handshakeBytes,
                firstTimeoutMicroseconds: ClientLimits.handshakeTimeoutMicroseconds
            )
        else { return false }
        for record in flight.records { _ = record.withUnsafeBytes { session.receive($0) } }
        var answer = HandshakeFlight(records: takeRecords(session))
        guard session.state == .handshaking, !answer.records.isEmpty else { return false }
        if let initiation = flight.association, let association = try? makeAssociation(.server, data) {
            answer.association = association.answer(initiation: initiation)
            if answer.association != nil { self.association = association }
        }
        (dtls, dtlsRole) = (session, .server)
        (carried.answer, carried.isAgreed) = (answer, true)
        carried.hasAssociations = answer.association != nil
        return true
    }

    // MARK: Both

    /// Goes on with what came beside the answer.
    func takeAnswered(_ flight: HandshakeFlight) {
        guard isOfferer, dtlsRole == .client, let dtls else { return }
        let hello = carried.hello
        carried.hello = []
        for record in hello { record.withUnsafeBytes { send(ofHandshake: $0) } }
        guard !flight.records.isEmpty else { return }
        carried.isAgreed = true
        for record in flight.records where dtls.state == .handshaking {
            _ = record.withUnsafeBytes { open($0, isForHandshake: true) }
        }
    }

    /// A flight that came by signaling behind the answer.
    func receive(_ flight: HandshakeFlight) {
        guard carried.isAgreed, let dtls, phase != .ended else { return }
        for record in flight.records where dtls.state == .handshaking {
            _ = record.withUnsafeBytes { open($0, isForHandshake: true) }
            noteDeadlineMoved()
        }
        settle()
    }

    func tell(_ records: [[UInt8]]) {
        guard !records.isEmpty, carried.flightsTold < ClientLimits.carriedFlights else { return }
        carried.flightsTold += 1
        emit(.flight(HandshakeFlight(records: Array(records.prefix(ClientLimits.carriedRecords)))))
    }

    /// Where the peer's relay waits for data before our check of the path is answered, data goes.
    func lookAhead() {
        guard carried.isAgreed, !carried.isPathAheadTold, dtls?.maySeal == true, let ahead = agent.pathAhead else {
            return
        }
        carried.isPathAheadTold = true
        sendWaiting()
        emit(.path(ahead))
    }

    /// - Returns: whether it was sent ahead of the path.
    func transmitAhead(_ record: UnsafeRawBufferPointer) -> Bool {
        // Behind a path that was lost there may be anything; what has no path waits for the next one.
        guard !hasHadPath, carried.isAgreed, carried.datagramsAhead < ClientLimits.datagramsAhead,
            let ahead = agent.pathAhead
        else { return false }
        carried.datagramsAhead += 1
        send(record, to: ahead.remote, on: ahead.base)
        return true
    }

    private func takeRecords(_ session: DTLSSession) -> [[UInt8]] {
        var records: [[UInt8]] = []
        while session.hasOutput {
            let count = session.takeOutput(into: context.sealed)
            guard count > 0 else { break }
            records.append([UInt8](context.sealed[..<count]))
        }
        return records
    }
}

import STUN

extension ICEAgent {
    /// The longest datagram that goes by the path in one piece, as far as is known. More than every path carries it is
    /// on direct ones alone, and with a peer that answers padded checks.
    package var datagramBytes: Int {
        guard let selected, isSearched(selected) else { return ICELimits.datagramBytes }
        return selected.pathMTU?.datagramBytes ?? ICELimits.datagramBytes
    }

    /// Sends the probe that is due.
    func probePathMTU() {
        guard let pair = selected, pair.isAlive, isSearched(pair),
            let bytes = pair.pathMTU?.nextProbe(now: now, roundTrip: pair.liveness.roundTrip)
        else { return }
        sendProbe(bytes, on: pair)
    }

    /// Tells the size whenever it is another, ahead of the path that it belongs to.
    func announceDatagramBytes() {
        let bytes = datagramBytes
        guard bytes != announcedBytes else { return }
        announcedBytes = bytes
        actions.append(.datagramBytes(bytes))
    }

    func noteProbe(_ bytes: Int, on pair: ICEPair, isSuccess: Bool) {
        guard isSuccess else {
            // It tells that padding is not understood (420) or not wanted, and nothing of the path.
            pair.pathMTU?.noteRefusal()
            return
        }
        guard !pair.isOver else { return }
        pair.pathMTU?.noteAnswer(bytes, now: now)
        renew(pair)
    }

    /// `pair` is about to be the one in use. One that leads the same way as the one before, as after a restart, keeps
    /// what is known of it.
    func takePathMTU(to pair: ICEPair) {
        if let selected, selected !== pair, selected.local.base == pair.local.base,
            selected.remoteEndpoint == pair.remoteEndpoint, pair.pathMTU != nil, let known = selected.pathMTU
        {
            pair.pathMTU = known
        } else {
            pair.pathMTU?.restart()
        }
    }

    var pathMTUDeadline: UInt64? {
        guard let selected, selected.isAlive, isSearched(selected) else { return nil }
        return selected.pathMTU?.deadline
    }

    private func isSearched(_ pair: ICEPair) -> Bool { pair.pathMTU != nil && pair.relays == 0 }

    private func sendProbe(_ bytes: Int, on pair: ICEPair) {
        let transaction = cryptography.randomTransaction()
        var request = request(on: pair, nominating: false)
        request.lengthBytes = bytes
        note(transaction, request, of: pair)
        checks[transaction]?.probeBytes = bytes
        let message = request.encoded(transaction, key: pair.key, with: cryptography)
        actions.append(.send(base: pair.local.base, to: pair.remoteEndpoint, bytes: message))
    }
}

import STUN
import TURN

/// Clients that move to another 5-tuple (RFC 8016), and their allocations, which follow them from worker to worker.
extension Worker {
    /// Asks the worker that has the allocation, and keeps the request until it has answered.
    mutating func ask(
        _ request: MoveRequest,
        _ owner: Int,
        _ bytes: UnsafeRawBufferPointer,
        _ tuple: FiveTuple,
        _ route: ClientRoute
    ) {
        guard moves.park(request.number, ParkedRequest(bytes: Array(bytes), tuple: tuple, route: route)) else {
            engine.counters.drop(.parkingFull)
            engine.forgetArrival(at: tuple)
            return
        }
        if route.isConnection { park(connection: route.connection) }
        host.send(.asked(request), to: owner)
    }

    /// Keeps a datagram until the allocation it is for has come, and calls for that.
    mutating func hold(_ bytes: UnsafeRawBufferPointer, _ tuple: FiveTuple, _ route: ClientRoute) {
        guard moves.hold(ParkedRequest(bytes: Array(bytes), tuple: tuple, route: route)) else {
            engine.counters.drop(.parkingFull)
            return
        }
        if route.isConnection { park(connection: route.connection) }
        engine.callAllocation(to: tuple)
    }

    mutating func take(_ message: MoveMessage) {
        // A message may close or give away a relay socket: what waits for it leaves first.
        flushPeers()
        switch engine.receive(message, at: now) {
        case .nothing: break
        case .answer(let number): answer(number)
        case .release(let tuple, let number):
            for datagram in moves.take(heldFor: tuple) { replay(datagram) }
            if let number { answer(number) }
        }
    }

    private mutating func answer(_ number: UInt64) {
        guard let request = moves.take(request: number) else { return }
        replay(request)
        engine.forgetAnswer(at: request.tuple)
    }

    /// Handles what was kept, of whatever kind.
    mutating func give(_ bytes: UnsafeRawBufferPointer, _ tuple: FiveTuple, _ route: ClientRoute) {
        if let first = bytes.first,
            ChannelData.isChannel(firstByte: first, wide: engine.configuration.acceptsWideChannels)
        {
            settle(
                engine.channelData(bytes, allocation: engine.allocation(of: tuple), now: now.monotonicNanoseconds),
                bytes,
                tuple,
                route
            )
        } else {
            receiveMessage(bytes, tuple, route)
        }
        // Data for peers lies where it was kept.
        flushPeers()
    }
}

import TurnpikeClient

/// One load at one rate, while it runs: what is due, and what has come.
struct LoadStep {
    let number: UInt32
    let startedAt: UInt64
    private(set) var result: BenchReport.Step
    private var pacer: Pacer
    private var windows: [ArrivalWindow]
    private var numbers: [UInt64]
    private let run: UInt32
    /// When the last packet came, or the step began.
    private(set) var lastArrivalAt: UInt64

    /// - Parameter run: drawn once for all steps.
    init(number: UInt32, run: UInt32, rate: Double, connections: Int, now: UInt64) {
        (self.number, self.run, startedAt, lastArrivalAt) = (number, run, now, now)
        result = BenchReport.Step(rate: rate, seconds: 0)
        pacer = Pacer(
            packetsPerSecond: rate,
            startedAt: now,
            mostAtOnce: UInt64(max(rate * Self.burstSeconds, 1))
        )
        windows = Array(repeating: ArrivalWindow(), count: connections)
        numbers = Array(repeating: 0, count: connections)
    }

    /// - Returns: how many packets to send now.
    mutating func take(now: UInt64) -> UInt64 {
        let count = pacer.take(now: now)
        (result.due, result.skipped) = (pacer.due, pacer.skipped)
        result.seconds = Double(now &- startedAt) / 1e9
        return count
    }

    /// The head of the next packet of a connection, which counts as sent.
    mutating func next(_ connection: Int, now: UInt64, into packet: UnsafeMutableRawBufferPointer) {
        LoadPacket(run: run, step: number, number: numbers[connection], sentAt: now).write(to: packet)
        numbers[connection] &+= 1
        result.sent &+= 1
    }

    /// A connection took no more.
    mutating func hold() {
        result.held &+= 1
    }

    /// What came by a connection; anything else than a packet of this step is left alone.
    mutating func receive(_ bytes: UnsafeRawBufferPointer, on connection: Int, now: UInt64) {
        guard let packet = LoadPacket(bytes), packet.run == run, packet.step == number, packet.sentAt <= now else {
            return
        }
        lastArrivalAt = now
        switch windows[connection].take(packet.number) {
        case .duplicate:
            result.duplicates &+= 1
            return
        case .reordered: result.reordered &+= 1
        case .first: break
        }
        result.received &+= 1
        result.latency.record(nanoseconds: now - packet.sentAt)
    }

    /// What is made up for at once when the clock was looked at late. More would be a burst that overruns the buffers
    /// on the way, which says nothing about the server.
    private static let burstSeconds = 0.02
}

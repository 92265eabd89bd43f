import DataChannels
import Glibc

/// Two associations that hand each other their packets.
struct Bench {
    private let client: DataChannelAssociation
    private let server: DataChannelAssociation

    init() throws {
        var options = DataChannelOptions()
        options.remoteMaxMessageBytes = 262_144
        client = try DataChannelAssociation(.client, options: options, wake: {})
        server = try DataChannelAssociation(.server, options: options, wake: {})
    }

    func run() throws {
        try client.connect()
        try server.connect()
        let channel = try client.openChannel(.init(label: "bench"))
        for bytes in [100, 1_000, 16_384, 65_536, 262_144] { measure(bytes, on: channel.id) }
    }

    private func measure(_ bytes: Int, on channel: UInt16) {
        let message = [UInt8](repeating: 7, count: bytes)
        let start = monotonicNanoseconds(CLOCK_PROCESS_CPUTIME_ID)
        var end = start
        var arrived = 0
        while end - start < 2_000_000_000 {
            for _ in 0..<64 {
                guard message.withUnsafeBytes({ client.send($0, on: channel) }) == .sent else { break }
            }
            for _ in 0..<16 { arrived += exchange() }
            SCTPStack.shared.advance(to: monotonicNanoseconds())
            end = monotonicNanoseconds(CLOCK_PROCESS_CPUTIME_ID)
        }
        let rate = Double(arrived) / Double(end - start) * 1_000
        print("messages of \(bytes) bytes: \(Int(rate)) MB per CPU second")
        // Nothing is left for the next.
        while client.bufferedAmount(of: channel) > 0 { _ = exchange() }
    }

    /// - Returns: the bytes that arrived.
    private func exchange() -> Int {
        var arrived = 0
        client.drain(sending: { server.receive($0) }, handling: { _ in })
        server.drain(
            sending: { client.receive($0) },
            handling: { event in
                if case .message(_, let bytes, _) = event { arrived += bytes.count }
            }
        )
        return arrived
    }
}

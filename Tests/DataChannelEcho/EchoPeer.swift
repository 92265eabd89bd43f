import DataChannels
import Glibc

/// One association over a UDP socket.
final class EchoPeer {
    private let link: DatagramSocket
    private let association: DataChannelAssociation
    private var isConnected = false
    private var isOver = false
    /// What found no room in the send buffer.
    private var waiting: [(channel: UInt16, bytes: [UInt8], isText: Bool)] = []

    init() throws {
        association = try DataChannelAssociation(.server, wake: {})
        link = try DatagramSocket()
        say("\(link.port)")
    }

    func run() throws {
        while !isOver {
            link.wait(milliseconds: 5)
            SCTPStack.shared.advance(to: monotonicNanoseconds())
            while try link.receive(take) {}
            association.drain(sending: link.send, handling: handle)
        }
    }

    private func take(_ packet: UnsafeRawBufferPointer) throws {
        if !isConnected {
            isConnected = true
            try association.connect()
        }
        association.receive(packet)
    }

    private func handle(_ event: DataChannelEvent) {
        switch event {
        case .opened: say("opened")
        case .channelOpened(let channel, let byPeer):
            let order = channel.isOrdered ? "ordered" : "unordered"
            let names = "\(channel.label) \(channel.subprotocol)"
            say("channel \(channel.id) \(byPeer ? "theirs" : "ours") \(names) \(order) \(channel.reliability)")
        case .message(let channel, let bytes, let isText): answer(channel, bytes, isText)
        case .writable: flush()
        case .bufferedAmountLow: break
        case .channelClosed(let channel, let reason): say("channel \(channel) closed \(reason)")
        case .closed(let reason):
            say("closed \(reason)")
            isOver = true
        }
    }

    private func answer(_ channel: UInt16, _ bytes: [UInt8], _ isText: Bool) {
        waiting.append((channel, bytes, isText))
        flush()
        guard isText else { return }
        let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
        switch words.first {
        case "open": _ = try? association.openChannel(.init(label: String(words.last ?? "")))
        case "close": association.closeChannel(channel)
        case "shutdown": association.shutdown()
        default: break
        }
    }

    private func flush() {
        while let (channel, bytes, isText) = waiting.first {
            let outcome = bytes.withUnsafeBytes { association.send($0, isText: isText, on: channel) }
            if outcome == .wouldBlock { return }
            waiting.removeFirst()
        }
    }
}

/// Prints a line at once: a reader waits for it.
func say(_ line: String) {
    print(line)
    fflush(nil)
}

import DataChannels
import Glibc

/// One association over a UDP socket.
final class EchoPeer {
    private struct SocketFailure: Error {
        let code = errno
    }

    private let descriptor: Int32
    private let association: DataChannelAssociation
    private var isConnected = false
    private var isOver = false
    /// What found no room in the send buffer.
    private var waiting: [(channel: UInt16, bytes: [UInt8], isText: Bool)] = []

    init() throws {
        association = try DataChannelAssociation(.server, wake: {})
        descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        guard descriptor >= 0 else { throw SocketFailure() }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) | getsockname(descriptor, $0, &length)
            }
        }
        guard result == 0 else { throw SocketFailure() }
        say("\(UInt16(bigEndian: address.sin_port))")
    }

    deinit { close(descriptor) }

    func run() throws {
        while !isOver {
            var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            poll(&request, 1, 5)
            while try receive() {}
            SCTPStack.shared.advance(to: monotonicNanoseconds())
            association.update()
            handleEvents()
            sendPackets()
        }
    }

    private func receive() throws -> Bool {
        var buffer = [UInt8](repeating: 0, count: 65_536)
        var source = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let count = withUnsafeMutablePointer(to: &source) { source in
            source.withMemoryRebound(to: sockaddr.self, capacity: 1) { source in
                let count = recvfrom(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT), source, &length)
                if count > 0, !isConnected { Glibc.connect(descriptor, source, length) }
                return count
            }
        }
        guard count > 0 else { return false }
        if !isConnected {
            isConnected = true
            try association.connect()
        }
        buffer.withUnsafeBytes { association.receive(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        return true
    }

    private func handleEvents() {
        while let event = association.nextEvent() {
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

    private func sendPackets() {
        while let packet = association.nextPacket() { send(descriptor, packet, packet.count, 0) }
    }
}

/// Prints a line at once: a reader waits for it.
func say(_ line: String) {
    print(line)
    fflush(nil)
}

func monotonicNanoseconds(_ clock: clockid_t = CLOCK_MONOTONIC) -> Int64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

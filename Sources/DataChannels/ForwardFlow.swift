/// One TCP connection's way through a data channel of its own, without socket or channel: what TCP and the channel give
/// goes in, what they are to take comes out.
///
/// SCTP has one window for all channels of an association, so who stopped reading it for one connection would stop them
/// all. Here each side tells the other how many bytes of this connection it may send (credit), and reads everything at
/// once: a connection that nobody reads holds up its own sender within its window, and no other's.
///
/// The channel is reliable and ordered, with `ForwardLimits.subprotocol`; its messages are binary. After every call
/// `sendWaiting` is to be called, and again when the channel is writable. When `isDone`, the channel is to be closed; a
/// channel that is closed before, or a message that `receive` refuses, is the TCP connection's reset.
package struct ForwardFlow: Sendable {
    package enum Phase: Sendable, Equatable {
        /// The peer's first message has not come.
        case waiting
        /// The peer named its target: `accept` or `refuse`.
        case asked
        /// The peer was asked.
        case opening
        case open
        /// By the peer or by this side.
        case refused(ForwardRefusal)
    }

    package private(set) var phase: Phase
    /// Where the side that did not open the channel connects to, as text such as `127.0.0.1:80`; empty before it is
    /// known.
    package private(set) var target: String
    private let window: Int

    /// What the peer may still send.
    private var granted = ForwardLimits.earlyBytes
    /// Taken by TCP, and not told to the peer yet.
    private var returned = 0
    /// Came and not taken by `takeReceived` yet.
    private var received: [[UInt8]] = []
    /// Given by `takeReceived`, and not written by TCP yet.
    private var unwritten = 0
    private var peerHasEnded = false

    /// What this side may still send.
    private var credit = ForwardLimits.earlyBytes
    /// Messages that the channel has not taken, and the bytes of the connection in them.
    private var waiting: [[UInt8]] = []
    private var waitingBytes = 0
    private var hasEnded = false

    /// For the side that opens the channel.
    /// - Parameter windowBytes: what may be held here for TCP; `ForwardLimits.windowBytes` says how much is wise.
    package init(opening target: String, windowBytes: Int) throws(ForwardFlowError) {
        guard 1...ForwardLimits.targetBytes ~= target.utf8.count else { throw .targetLength(target.utf8.count) }
        phase = .opening
        self.target = target
        window = ForwardLimits.clamped(windowBytes)
        granted = window
        // The other side's answer says what it allows; this side's word goes with the target.
        waiting = [ForwardMessage.open(target: target, credit: window - ForwardLimits.earlyBytes).bytes]
    }

    /// For the side whose peer opened the channel.
    package init(windowBytes: Int) {
        phase = .waiting
        target = ""
        window = ForwardLimits.clamped(windowBytes)
    }

    // MARK: The channel

    /// Takes a message of the channel.
    ///
    /// - Throws: for what breaks the protocol: the channel is to be closed and TCP to be reset.
    package mutating func receive(_ message: UnsafeRawBufferPointer) throws(ForwardFlowError) {
        switch (try ForwardMessage(message), phase) {
        case (.open(let target, let credit), .waiting):
            phase = .asked
            self.target = target
            try add(credit)
        case (.accept(let credit), .opening):
            phase = .open
            try add(credit)
        case (.refuse(let refusal), .opening):
            phase = .refused(refusal)
            discard()
        case (.data(let bytes), .asked), (.data(let bytes), .open):
            guard !peerHasEnded, bytes.count <= granted else { throw .beyondWindow }
            granted -= bytes.count
            keep(bytes)
        case (.end, .asked), (.end, .open):
            guard !peerHasEnded else { throw .unexpected }
            peerHasEnded = true
        case (.credit(let count), .open): try add(count)
        // What the peer sent before it heard of the refusal.
        case (.data, .refused), (.end, .refused): break
        default: throw .unexpected
        }
    }

    /// Small messages join one another, so that what is held costs what the window says.
    private mutating func keep(_ bytes: UnsafeRawBufferPointer) {
        if let count = received.last?.count, count + bytes.count <= ForwardLimits.messageBytes {
            received[received.count - 1].append(contentsOf: bytes)
        } else {
            received.append([UInt8](bytes))
        }
    }

    private mutating func add(_ credit: Int) throws(ForwardFlowError) {
        guard credit <= ForwardLimits.greatestCredit - self.credit else { throw .beyondWindow }
        self.credit += credit
    }

    /// Gives the channel what waits for it, until it takes no more.
    ///
    /// - Returns: `sent` when nothing waits any longer, or else what the channel said.
    package mutating func sendWaiting(_ send: (UnsafeRawBufferPointer) -> SendOutcome) -> SendOutcome {
        noteReturned()
        var taken = 0
        defer { waiting.removeFirst(taken) }
        while taken < waiting.count {
            let outcome = waiting[taken].withUnsafeBytes(send)
            guard outcome == .sent else { return outcome }
            if waiting[taken].first == ForwardMessage.dataHeader { waitingBytes -= waiting[taken].count - 1 }
            taken += 1
        }
        return .sent
    }

    /// Puts what TCP took into one message, ahead of data: the peer may be waiting for it.
    private mutating func noteReturned() {
        guard phase == .open, !peerHasEnded, returned >= window / ForwardLimits.creditsOfWindow else { return }
        let isAccepting = waiting.first.map { $0.first != ForwardMessage.dataHeader } ?? false
        waiting.insert(ForwardMessage.credit(returned).bytes, at: isAccepting ? 1 : 0)
        granted += returned
        returned = 0
    }

    /// Both directions ended and everything was delivered, or the connection was refused: nothing is left but to close
    /// the channel.
    package var isDone: Bool {
        guard waiting.isEmpty else { return false }
        if case .refused = phase { return true }
        return hasEnded && peerHasEnded && received.isEmpty && unwritten == 0
    }

    /// Whether anything may still come or go on the channel. Once not, the peer may close it while bytes wait here for
    /// TCP, which are to be written all the same.
    package var needsChannel: Bool {
        if case .refused = phase { return !waiting.isEmpty }
        return !(hasEnded && peerHasEnded && waiting.isEmpty)
    }

    // MARK: The side that was asked

    /// The connection to `target` stands.
    package mutating func accept() {
        guard phase == .asked else { return }
        phase = .open
        granted += window - ForwardLimits.earlyBytes
        waiting.insert(ForwardMessage.accept(credit: window - ForwardLimits.earlyBytes).bytes, at: 0)
    }

    /// There will be no connection to `target`.
    package mutating func refuse(_ refusal: ForwardRefusal) {
        guard phase == .asked || phase == .waiting else { return }
        phase = .refused(refusal)
        discard()
        waiting = [ForwardMessage.refuse(refusal).bytes]
    }

    private mutating func discard() {
        received = []
        waiting = []
        waitingBytes = 0
        unwritten = 0
    }

    // MARK: TCP

    /// How many bytes `read` takes now. While it is 0, TCP is not to be read, so that its own window holds up the
    /// sender.
    package var readableBytes: Int {
        guard !hasEnded, phase == .open || phase == .opening else { return 0 }
        return max(0, min(credit, ForwardLimits.waitingBytes - waitingBytes))
    }

    /// Takes what was read from TCP.
    /// - Returns: how many of the bytes were taken, the first `readableBytes`; the others are to be given again.
    package mutating func read(_ bytes: UnsafeRawBufferPointer) -> Int {
        let count = min(bytes.count, readableBytes)
        var offset = 0
        while offset < count {
            let end = min(count, offset + ForwardLimits.messageBytes)
            waiting.append(ForwardMessage.data(UnsafeRawBufferPointer(rebasing: bytes[offset..<end])).bytes)
            offset = end
        }
        credit -= count
        waitingBytes += count
        return count
    }

    /// TCP has no more to read: its peer ended its direction.
    package mutating func end() {
        guard !hasEnded, phase == .open || phase == .opening else { return }
        hasEnded = true
        waiting.append(ForwardMessage.end.bytes)
    }

    /// What is to be written to TCP next; nil when nothing waits. `noteWritten` has to follow.
    package mutating func takeReceived() -> [UInt8]? {
        guard phase == .open, !received.isEmpty else { return nil }
        let bytes = received.removeFirst()
        unwritten += bytes.count
        return bytes
    }

    /// TCP took so many of the bytes that `takeReceived` gave: the peer may send as many more.
    package mutating func noteWritten(_ bytes: Int) {
        let bytes = min(bytes, unwritten)
        unwritten -= bytes
        returned += bytes
    }

    /// The peer ended its direction and everything was taken: this side's is to be ended towards TCP, which goes on
    /// reading.
    package var shouldEndWriting: Bool { phase == .open && peerHasEnded && received.isEmpty && unwritten == 0 }

    /// What waits here for TCP, never more than the window.
    package var heldBytes: Int { received.reduce(unwritten) { $0 + $1.count } }
}

/// Why a side made no connection.
package struct ForwardRefusal: Sendable, Equatable {
    package enum Reason: UInt8, Sendable {
        case failed = 0
        /// The target is none that this side connects to for its peer.
        case notAllowed
        /// The target's host refused, or nothing listens there.
        case refused
        case unreachable
        case timedOut
        /// The name of the target's host has no address.
        case unknownHost
        /// This side carries as many connections as it may.
        case tooMany
    }

    package let reason: Reason
    /// For a person.
    package let explanation: String

    package init(reason: Reason, explanation: String) {
        self.reason = reason
        self.explanation = explanation
    }
}

package enum ForwardFlowError: Error, Equatable, CustomStringConvertible {
    /// No message of the protocol.
    case malformed
    /// A message at a time when it means nothing.
    case unexpected
    /// More bytes, or more credit, than was allowed.
    case beyondWindow
    case targetLength(Int)

    package var description: String {
        switch self {
        case .malformed: "the peer sent what is no message of \(ForwardLimits.subprotocol): is its version another?"
        case .unexpected: "the peer sent a message of \(ForwardLimits.subprotocol) out of turn"
        case .beyondWindow: "the peer sent more than it was allowed to"
        case .targetLength(let bytes):
            "a target of \(bytes) bytes: write HOST:PORT with 1 to \(ForwardLimits.targetBytes) bytes"
        }
    }
}

import STUN
import Traversal

/// What a peer does by its sockets: an ICE agent, and Binding requests that show what the world sees of them.
struct PeerMachine {
    enum Action {
        case ice(ICEAction)
        case query([UInt8], to: Endpoint, socket: Int)
        /// A server sees the socket there.
        case reflexive(Endpoint, socket: Int, server: Endpoint)
        case data([UInt8], base: ICEBase, from: Endpoint)
    }

    let ice: ICEAgent
    private var queries = TransactionTable<Int>()
    private let cryptography: any Cryptography

    init(_ ice: ICEAgent, _ cryptography: any Cryptography) {
        (self.ice, self.cryptography) = (ice, cryptography)
    }

    var nextDeadline: UInt64? { [ice.nextDeadline, queries.nextDeadline].compactMap { $0 }.min() }

    /// Does something with the agent.
    func turn(_ actions: inout [Action], _ body: (ICEAgent, inout [ICEAction]) -> Void) {
        var wanted: [ICEAction] = []
        body(ice, &wanted)
        actions += wanted.map(Action.ice)
    }

    /// Asks a server what it sees of the socket. One query of a socket takes the place of another.
    mutating func query(_ server: Endpoint, from socket: Int, now: UInt64, into actions: inout [Action]) {
        _ = queries.abandon { $1 == socket }
        var drawn = (UInt64(0), UInt32(0))
        withUnsafeMutableBytes(of: &drawn.0) { cryptography.random($0) }
        withUnsafeMutableBytes(of: &drawn.1) { cryptography.random($0) }
        let id = TransactionID(high: drawn.0, low: drawn.1)
        let bytes = [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
            let builder = MessageBuilder(
                MessageType(.binding, .request),
                id,
                into: UnsafeMutableRawBufferPointer(buffer)
            )
            count = builder.finish() ?? 0
        }
        let request = TransactionTable<Int>.Request(
            bytes: bytes,
            transactionID: id,
            method: .binding,
            destination: server,
            socket: socket,
            schedule: queries.schedule(to: server, now: now)
        )
        guard queries.begin(request, socket, now: now) else { return }
        actions.append(.query(bytes, to: server, socket: socket))
    }

    mutating func take(_ input: AgentInput, now: UInt64, into actions: inout [Action]) {
        switch input {
        case .datagram(let socket, let bytes, let source, _):
            if isAnswer(bytes, socket, source, now: now, into: &actions) { return }
            take(bytes, on: ICEBase(rawValue: UInt32(socket)), from: source, now: now, into: &actions)
        case .problem(let socket, let problem):
            ice.noteUnreachable(problem.destination, from: ICEBase(rawValue: UInt32(socket)))
        case .opened, .bytes, .closed, .accepted: break
        }
    }

    /// A datagram by a socket or a relay.
    func take(_ bytes: [UInt8], on base: ICEBase, from source: Endpoint, now: UInt64, into actions: inout [Action]) {
        bytes.withUnsafeBytes { buffer in
            guard Demultiplexer.kind(buffer) == .stun else {
                return actions.append(.data(bytes, base: base, from: source))
            }
            turn(&actions) { ice, wanted in ice.receive(buffer, on: base, from: source, now: now, into: &wanted) }
        }
    }

    private mutating func isAnswer(
        _ bytes: [UInt8],
        _ socket: Int,
        _ source: Endpoint,
        now: UInt64,
        into actions: inout [Action]
    ) -> Bool {
        bytes.withUnsafeBytes { buffer in
            guard let message = try? MessageView(buffer) else { return false }
            switch queries.receive(message, from: source, socket: socket, now: now, with: cryptography) {
            case .ignored: return false
            case .failed: return true
            case .answered(let answer):
                if answer.errorCode == nil, let mapped = AnswerRules.mappedAddress(of: message) {
                    actions.append(.reflexive(mapped, socket: socket, server: answer.destination))
                }
                return true
            }
        }
    }

    mutating func expire(now: UInt64, into actions: inout [Action]) {
        for event in queries.advance(now: now) {
            guard case .transmit(let socket, let destination, let bytes) = event else { continue }
            actions.append(.query(bytes, to: destination, socket: socket))
        }
        turn(&actions) { ice, wanted in ice.advance(now: now, into: &wanted) }
    }
}

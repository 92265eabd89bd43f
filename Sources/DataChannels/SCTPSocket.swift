import CUsrSCTP

/// One association's end in usrsctp. Every method is to be called in `SCTPStack.run`.
struct SCTPSocket {
    /// A failure of usrsctp's, as errno.
    struct Failure: Error, Equatable {
        let code: Int32
    }

    /// What one read gave.
    struct Reading {
        let info: turnpike_sctp_info
        let count: Int
    }

    private let socket: OpaquePointer
    private let address: UnsafeMutableRawPointer?
    private let options: DataChannelOptions

    /// Opens a socket by the number that `PacketTable` gave.
    init(number: Int, options: DataChannelOptions, state: inout SCTPStack.State) throws(Failure) {
        address = UnsafeMutableRawPointer(bitPattern: number)
        self.options = options
        while state.registered < number {
            state.registered += 1
            usrsctp_register_address(UnsafeMutableRawPointer(bitPattern: state.registered))
        }
        var settings = turnpike_sctp_options(options)
        var failure: Int32 = 0
        let opened = turnpike_sctp_open(
            address,
            options.localPort,
            &settings,
            { _, address, _ in SCTPStack.shared.packets.noteReadable(Int(bitPattern: address)) },
            &failure
        )
        guard let opened else { throw Failure(code: -failure) }
        socket = opened
        state.associations += 1
    }

    /// Says ABORT to the peer if there still is an association.
    func close(_ state: inout SCTPStack.State) {
        usrsctp_close(socket)
        state.associations -= 1
    }

    func connect() throws(Failure) { try check(turnpike_sctp_connect(socket, address, options.remotePort)) }

    /// Sends what was given so far, and then SHUTDOWN.
    func shutdown() throws(Failure) { try check(turnpike_sctp_shutdown(socket)) }

    func input(_ packet: UnsafeRawBufferPointer) {
        guard turnpike_sctp_is_whole(packet.baseAddress, packet.count) else { return }
        usrsctp_conninput(address, packet.baseAddress, packet.count, 0)
    }

    /// - Throws: EWOULDBLOCK when nothing waits; another when the association is over.
    func read(into target: UnsafeMutableRawBufferPointer) throws(Failure) -> Reading {
        var info = turnpike_sctp_info()
        let count = turnpike_sctp_receive(socket, target.baseAddress, target.count, &info)
        if count < 0 { throw Failure(code: Int32(truncatingIfNeeded: -count)) }
        return Reading(info: info, count: count)
    }

    /// - Throws: EWOULDBLOCK while the send buffer has no room for the whole message.
    func send(_ message: UnsafeRawBufferPointer, _ framing: Framing) throws(Failure) {
        let sent = turnpike_sctp_send(
            socket,
            message.baseAddress,
            message.count,
            framing.stream,
            framing.payload.rawValue,
            framing.isUnordered,
            framing.policy,
            framing.policyValue
        )
        if sent < 0 { throw Failure(code: Int32(truncatingIfNeeded: -sent)) }
    }

    var isWritable: Bool { turnpike_sctp_is_writable(socket) }

    /// Resets the outgoing side of a stream once all its messages are through (RFC 6525 section 5.1.2).
    func resetOutgoing(_ stream: UInt16) throws(Failure) {
        try check(turnpike_sctp_reset_outgoing(socket, stream))
    }

    /// - Parameter isConnected: of the association; of the endpoint, for an association yet to come, otherwise.
    func setPacketLimit(_ bytes: Int, isConnected: Bool) throws(Failure) {
        var settings = turnpike_sctp_options(options)
        let limit = UInt32(clamping: bytes)
        try check(turnpike_sctp_set_path(socket, address, options.remotePort, isConnected, limit, &settings))
    }

    /// Data are cut for packets of so many bytes, of the association if there is one, or else of the one to come.
    func setSegmentLimit(_ bytes: Int) throws(Failure) {
        try check(turnpike_sctp_set_segment(socket, UInt32(clamping: bytes)))
    }

    var status: sctp_status? {
        var status = sctp_status()
        return turnpike_sctp_status(socket, &status) == 0 ? status : nil
    }

    private func check(_ result: Int32) throws(Failure) {
        if result != 0 { throw Failure(code: -result) }
    }
}

/// How a message is sent.
struct Framing {
    let stream: UInt16
    let payload: PayloadProtocol
    var isUnordered = false
    var reliability = DataChannel.Reliability.reliable

    fileprivate var policy: UInt16 {
        switch reliability {
        case .reliable: UInt16(SCTP_PR_SCTP_NONE)
        case .maxRetransmits: UInt16(SCTP_PR_SCTP_RTX)
        case .maxLifetime: UInt16(SCTP_PR_SCTP_TTL)
        }
    }

    fileprivate var policyValue: UInt32 {
        switch reliability {
        case .reliable: 0
        case .maxRetransmits(let count): UInt32(count)
        // usrsctp takes 0 for a message that lives for ever.
        case .maxLifetime(let milliseconds): max(1, UInt32(milliseconds))
        }
    }
}

/// Payload protocol identifiers (RFC 8831 section 8). SCTP sends no empty message: one zero byte stands for it.
enum PayloadProtocol: UInt32 {
    case establishment = 50
    case text = 51
    case binary = 53
    case emptyText = 56
    case emptyBinary = 57
}

extension turnpike_sctp_options {
    init(_ options: DataChannelOptions) {
        self.init(
            streams: options.streams,
            init_attempts: options.initAttempts,
            retransmissions: options.retransmissions,
            rto_initial: options.initialTimeoutMilliseconds,
            rto_min: options.leastTimeoutMilliseconds,
            rto_max: options.greatestTimeoutMilliseconds,
            heartbeat_interval: options.heartbeatMilliseconds,
            packet_limit: UInt32(clamping: options.packetLimitBytes),
            send_buffer: Int32(clamping: options.sendBufferBytes),
            receive_buffer: Int32(clamping: options.receiveBufferBytes),
            // A quarter: what other streams may fill while a long message comes in parts.
            partial_delivery_point: UInt32(clamping: options.receiveBufferBytes / 4)
        )
    }
}

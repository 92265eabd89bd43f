/// How an association is set up. The defaults are what a WebRTC peer has.
package struct DataChannelOptions: Sendable, Equatable {
    /// SCTP's ports, which the SDP's `sctp-port` names; they are inside DTLS and reach no socket.
    package var localPort: UInt16 = 5_000
    package var remotePort: UInt16 = 5_000
    /// The longest message that this side takes: the SDP's `max-message-size`. A longer one closes its channel.
    package var maxMessageBytes = 262_144
    /// The longest that the peer takes. RFC 8841 section 6.1: 64 KiB where its SDP does not say.
    package var remoteMaxMessageBytes = 65_536
    /// Streams asked for and offered in each direction; the ids of channels are below. Browsers have 1,024 as well.
    package var streams: UInt16 = 1_024
    /// Channels at once. The peer's next one is refused by resetting its stream.
    package var channelLimit = 256
    /// What all channels together may hold that is not acknowledged yet; no message can be longer.
    package var sendBufferBytes = 1_048_576
    /// What may wait here for a reader, in usrsctp and as much again in events. The peer is held up beyond it.
    package var receiveBufferBytes = 1_048_576
    /// The longest packet handed out. In a datagram of 1,200 bytes this leaves 44: a DTLS record takes 37 with AES-GCM,
    /// and a ChannelData header of TURN 4.
    package var packetLimitBytes = 1_156
    /// While nothing else is sent. ICE's consent checks tell of a dead path sooner.
    package var heartbeatMilliseconds: UInt32 = 15_000
    /// Of a retransmission while no round trip was measured (RFC 9260 section 6.3.1).
    package var initialTimeoutMilliseconds: UInt32 = 1_000
    /// Above the 200 ms that a peer may hold back an acknowledgement for, and well below the second of RFC 9260, which
    /// is long for a person.
    package var leastTimeoutMilliseconds: UInt32 = 400
    /// So that traffic goes on within seconds of a path's return, instead of RFC 9260's minute.
    package var greatestTimeoutMilliseconds: UInt32 = 3_000
    /// Of an INIT, until the peer counts as missing: about 25 s.
    package var initAttempts: UInt16 = 10
    /// In a row, until the association counts as lost: about a minute, for ICE to find another path meanwhile.
    package var retransmissions: UInt16 = 20

    package init() {}
}

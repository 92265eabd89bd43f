/// Bounds of DTLS sessions, with their reasons.
enum DTLSLimits {
    /// Sessions of one worker: as many as it takes connections.
    static let sessions = StreamLimits.connections
    /// Of one source, an IPv4 address or an IPv6 /64, likewise.
    static let sessionsPerSource = StreamLimits.connectionsPerSource
    /// Handshakes under way on one worker. The oldest makes room for one more, so that those who only begin them keep
    /// nobody out (case DT-07). The address of each is proved, and the worst of them holds 350 KB: eight datagrams of a
    /// later epoch and ten messages in pieces, with a buffer of 17 KiB each.
    static let handshakes = 256
    /// Of one source: many users behind one address, who take one round trip each.
    static let handshakesPerSource = 32
    /// To make a handshake, a first request, an allocation.
    static let patienceNanoseconds = StreamLimits.patienceNanoseconds
    /// Handshakes that one turn of the loop goes on with: each may cost a signature and a key exchange, a third of a
    /// millisecond, and packets wait meanwhile. Another turn is cheap beside that.
    static let handshakesPerTurn = 1
    /// How often flights are looked at that may have to be sent again, while there are any. The first timeout is a
    /// second.
    static let timerMilliseconds: Int32 = 250
    /// Sessions that keep OpenSSL's buffers because they had traffic last: 2 MiB for a worker.
    static let warmSessions = 64
    /// What is opened and waits for one call to send it to peers; a record takes up to 16 KiB.
    static let openedBytes = 262_144
    /// What is sealed and waits likewise.
    static let sealedBytes = 524_288
}

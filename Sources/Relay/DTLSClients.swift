import OpenSSLCrypto
import STUN
import TURN

/// What a worker keeps for clients by DTLS: the gate, the sessions behind it, and memory for what is opened and sealed
/// in one turn of the loop.
struct DTLSClients: ~Copyable {
    /// Nil where DTLS is not served.
    var gate: DTLSGate?
    var table: SessionTable<DTLSSession>
    /// Opened datagrams, until they have left for peers.
    let opened: UnsafeMutableRawBufferPointer
    var openedUsed = 0
    /// Sealed datagrams, until they have left for clients.
    let sealed: UnsafeMutableRawBufferPointer
    var sealedUsed = 0
    /// When handshakes were last looked at for flights to send again.
    var tendedNanoseconds: UInt64 = 0

    /// - Parameter context: nil where DTLS is not served.
    init(_ context: TLSContext?) throws {
        if let context { gate = try DTLSGate(context) }
        table = SessionTable(hash: TableHash(try OpenSSLCryptography()))
        opened = .allocate(byteCount: DTLSLimits.openedBytes, alignment: 64)
        sealed = .allocate(byteCount: DTLSLimits.sealedBytes, alignment: 64)
    }

    deinit {
        opened.deallocate()
        sealed.deallocate()
    }

    @inline(__always)
    var isServed: Bool { gate != nil }

    /// Asks the gate. The address and both ports go into the cookie.
    mutating func ask(
        _ datagram: UnsafeRawBufferPointer,
        _ tuple: FiveTuple,
        nowNanoseconds: UInt64
    ) -> DTLSGateVerdict {
        let address = (
            tuple.client.address.high, tuple.client.address.low,
            UInt64(tuple.client.port) << 32 | UInt64(tuple.server.port) << 8 | (tuple.client.address.isIPv4 ? 1 : 0)
        )
        let reply = UnsafeMutableRawBufferPointer(rebasing: sealed[sealedUsed...])
        return withUnsafeBytes(of: address) { address in
            gate?.receive(
                datagram,
                from: address,
                nowSeconds: Int64(clamping: nowNanoseconds / 1_000_000_000),
                reply: reply
            ) ?? .drop
        }
    }
}

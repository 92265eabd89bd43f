import COpenSSL

/// The secrets that a handshake of TLS 1.3 ends with, for a session that goes on without OpenSSL's. OpenSSL gives them
/// for a log of keys alone (SSL_CTX_set_keylog_callback(3)). Here they are written nowhere, and erased behind the
/// handshake.
final class HandshakeSecrets {
    fileprivate(set) var client: [UInt8] = []
    fileprivate(set) var server: [UInt8] = []
    /// Records that OpenSSL has sealed under the server's secret: the tickets.
    fileprivate(set) var recordsSealed: UInt64 = 0

    deinit {
        TrafficKeys.erase(&client)
        TrafficKeys.erase(&server)
    }

    func noteSealedRecord() { if !server.isEmpty { recordsSealed &+= 1 } }

    /// Has the sessions of a context that want their secrets be given them.
    static func install(in context: OpaquePointer) {
        SSL_CTX_set_keylog_callback(context) { ssl, line in
            // Sessions without app data want none.
            guard let ssl, let line, let pipe = turnpike_ssl_app_data(ssl) else { return }
            pipe.assumingMemoryBound(to: SessionPipe.self).pointee.secrets?.take(UnsafeRawPointer(line), strlen(line))
        }
    }

    /// A line: a label, the client's random number and the secret, these two in hexadecimal digits.
    private func take(_ line: UnsafeRawPointer, _ count: Int) {
        let words = UnsafeRawBufferPointer(start: line, count: count).split(separator: UInt8(ascii: " "))
        guard words.count == 3 else { return }
        if words[0].elementsEqual("CLIENT_TRAFFIC_SECRET_0".utf8) {
            Self.decode(words[2], into: &client)
        } else if words[0].elementsEqual("SERVER_TRAFFIC_SECRET_0".utf8) {
            Self.decode(words[2], into: &server)
        }
    }

    private static func decode(_ digits: Slice<UnsafeRawBufferPointer>, into bytes: inout [UInt8]) {
        TrafficKeys.erase(&bytes)
        bytes.removeAll(keepingCapacity: true)
        bytes.reserveCapacity(digits.count / 2)
        var high: UInt8?
        for digit in digits {
            let value: UInt8
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): value = digit &- UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): value = digit &- UInt8(ascii: "a") &+ 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): value = digit &- UInt8(ascii: "A") &+ 10
            default: return bytes.removeAll()
            }
            if let first = high {
                bytes.append(first << 4 | value)
                high = nil
            } else {
                high = value
            }
        }
    }
}

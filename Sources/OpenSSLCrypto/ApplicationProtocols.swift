import COpenSSL

/// The protocols that ALPN may settle on, and the choice among them.
final class ApplicationProtocols: Sendable {
    private let names: [[UInt8]]

    init(_ names: [String]) { self.names = names.map { Array($0.utf8) } }

    /// As a client sends them (RFC 7301 section 3.1): each behind its length; nil where one has not 1 to 255 bytes.
    private var offer: [UInt8]? {
        guard names.allSatisfy({ (1...255).contains($0.count) }) else { return nil }
        return names.flatMap { [UInt8(truncatingIfNeeded: $0.count)] + $0 }
    }

    /// Has a context's servers choose among them, or its clients offer them. The context must not outlive this.
    func install(in context: OpaquePointer, role: TLSContext.Role) throws(TLSError) {
        switch role {
        case .server:
            SSL_CTX_set_alpn_select_cb(context, Self.select, Unmanaged.passUnretained(self).toOpaque())
        case .client where !names.isEmpty:
            // It gives 0 for success.
            guard let offer, SSL_CTX_set_alpn_protos(context, offer, UInt32(offer.count)) == 0 else {
                throw TLSError("ALPN cannot offer such protocols; give names of 1 to 255 bytes")
            }
        case .client, .peer: break
        }
    }

    typealias Select =
        @convention(c) (
            OpaquePointer?, UnsafeMutablePointer<UnsafePointer<UInt8>?>?, UnsafeMutablePointer<UInt8>?,
            UnsafePointer<UInt8>?, UInt32, UnsafeMutableRawPointer?
        ) -> Int32

    /// Our first name that is the client's too; no_application_protocol where none is (RFC 7301 section 3.2).
    static let select: Select = { _, chosen, chosenLength, offered, offeredLength, argument in
        guard let argument, let offered, let chosen, let chosenLength else { return SSL_TLSEXT_ERR_ALERT_FATAL }
        let protocols = Unmanaged<ApplicationProtocols>.fromOpaque(argument).takeUnretainedValue()
        let list = UnsafeBufferPointer(start: offered, count: Int(offeredLength))
        var best = protocols.names.count
        var index = 0
        while index < list.count {
            let end = index + 1 + Int(list[index])
            guard end <= list.count else { break }
            let name = list[(index + 1)..<end]
            if let place = protocols.names[..<best].firstIndex(where: { $0.elementsEqual(name) }) {
                best = place
                chosen.pointee = offered + index + 1
                chosenLength.pointee = list[index]
            }
            index = end
        }
        return best < protocols.names.count ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL
    }
}

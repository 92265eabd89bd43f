import Foundation
import OpenSSLCrypto
import Relay
import STUN
import Settings

/// What a certificate of the server's own is made out to: this machine's name, and the addresses clients reach.
struct CertificateNames: Sendable {
    let hosts: [String]
    let addresses: [String]

    /// - Parameter hostName: what the operator calls this machine in URLs.
    init(_ options: RelayOptions, hostName: String?) {
        let name = ProcessInfo.processInfo.hostName
        let own = name.isEmpty || name.contains("%") ? [] : [name]
        hosts = Array(Set(own + ["localhost"] + (hostName.map { [$0] } ?? []))).sorted()
        // Where clients come, which need not be where the server relays from.
        let listeners = options.streamListeners.map(\.endpoint.address) + options.listeners.map(\.address)
        let relays = options.relayAddresses.flatMap { [$0.local, $0.advertised] }
        // Whoever adds the first user makes the pair, maybe before the configuration is written: all that this machine
        // is reached at belongs to it.
        let machine = InterfaceAddresses.current() + [HostAddress(v4: 0x7F00_0001), HostAddress(high: 0, low: 1)]
        addresses = Set((relays + listeners).map { HostAddress($0) } + machine).filter {
            !$0.isUnspecified && !$0.isLinkLocalIPv6
        }.map(\.description).sorted()
    }
}

/// The certificate that TLS sessions are made from: the operator's, or one of the server's own in the data directory.
struct CertificateStore: Sendable {
    let certificatePath: String
    let privateKeyPath: String
    private let isOwn: Bool

    init(_ settings: Settings) {
        if let certificate = settings.tls.certificate, let privateKey = settings.tls.privateKey {
            (certificatePath, privateKeyPath, isOwn) = (certificate, privateKey, false)
        } else {
            certificatePath = settings.dataDirectory + "/certificate.pem"
            privateKeyPath = settings.dataDirectory + "/private-key.pem"
            isOwn = true
        }
    }

    /// Reads the pair for all kinds of sessions; makes it first where it is the server's own and not there yet.
    ///
    /// - Parameters:
    ///   - hosts, addresses: what a pair of the server's own is made out to.
    func load(hosts: [String], addresses: [String]) throws(ServerError) -> Certificates {
        if isOwn { try makeIfMissing(hosts, addresses) }
        try checkMode()
        do throws(TLSError) {
            return Certificates(
                tls: try context(.tls, TLSContext.turnProtocols),
                dtls: try context(.dtls, TLSContext.turnProtocols),
                https: try context(.tls, Self.httpsProtocols),
                // Who names both is a TURN client: coturn's names http/1.1 first.
                shared: try context(.tls, TLSContext.turnProtocols + Self.httpsProtocols)
            )
        } catch {
            throw ServerError(error.description)
        }
    }

    private func context(_ kind: TLSContext.Kind, _ applicationProtocols: [String]) throws(TLSError) -> TLSContext {
        try TLSContext(
            kind: kind,
            certificateChainPath: certificatePath,
            privateKeyPath: privateKeyPath,
            nowSeconds: Int64(Date().timeIntervalSince1970),
            applicationProtocols: applicationProtocols
        )
    }

    /// RFC 7301: no h2, and what speaks TURN has come to the wrong door (case WS-22).
    private static let httpsProtocols = ["http/1.1"]

    /// What an operator should know who has clients come by a name that his certificate has not; nil where all is well.
    func warning(_ hostName: String?) -> String? {
        guard let hostName, !isOwn, let file = CertificateFile(path: certificatePath, hosts: [hostName]),
            file.hosts.isEmpty
        else { return nil }
        return "host_name: \(certificatePath) is not made out to \(hostName), and clients by TLS will refuse it; get a "
            + "certificate that is, or name a host that it has"
    }

    /// Changes when either file does.
    var stamp: [Int] {
        [certificatePath, privateKeyPath].flatMap { path -> [Int] in
            var status = stat()
            guard stat(path, &status) == 0 else { return [0, 0, 0] }
            return [Int(status.st_mtim.tv_sec), status.st_mtim.tv_nsec, Int(status.st_ino)]
        }
    }

    /// A key that others can read is no secret any more (case DB-08).
    private func checkMode() throws(ServerError) {
        var status = stat()
        guard stat(privateKeyPath, &status) == 0 else { return }
        guard status.st_mode & 0o007 == 0 else {
            throw ServerError(
                "private key \(privateKeyPath) can be read by everybody; run: chmod 600 '\(privateKeyPath)'"
            )
        }
    }

    var isThere: Bool { access(certificatePath, F_OK) == 0 && access(privateKeyPath, F_OK) == 0 }

    /// A command may make the pair while the server starts: the directory's lock keeps two halves of two pairs apart.
    func makeIfMissing(_ hosts: [String], _ addresses: [String]) throws(ServerError) {
        guard !isThere else { return }
        let directory = (certificatePath as NSString).deletingLastPathComponent
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(directory) }
        // Closing it gives the lock back.
        defer { close(descriptor) }
        while flock(descriptor, LOCK_EX) != 0 {
            guard errno == EINTR else { throw failure(directory) }
        }
        var owner = stat()
        guard fstat(descriptor, &owner) == 0 else { throw failure(directory) }
        if !isThere { try make(hosts, addresses, owner: owner) }
    }

    private func make(_ hosts: [String], _ addresses: [String], owner: stat) throws(ServerError) {
        let pair: (certificatePEM: String, privateKeyPEM: String)
        do throws(TLSError) {
            pair = try SelfSignedCertificate.make(hosts: hosts, addresses: addresses)
        } catch {
            throw ServerError(error.description)
        }
        // The key goes first: without it the certificate is worth nothing, and the next start makes both anew.
        try write(pair.privateKeyPEM, to: privateKeyPath, owner: owner)
        try write(pair.certificatePEM, to: certificatePath, owner: owner)
    }

    private func write(_ text: String, to path: String, owner: stat) throws(ServerError) {
        unlink(path)
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure(path) }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        // What the umask took away, as a strict one does, is given back.
        let isOpen = fchmod(descriptor, 0o600) == 0
        // Root working for a service account must not leave behind what the service cannot open.
        let isGiven = geteuid() != 0 || fchown(descriptor, owner.st_uid, owner.st_gid) == 0
        guard isOpen, isGiven, Glibc.write(descriptor, bytes, bytes.count) == bytes.count, fsync(descriptor) == 0 else {
            let error = failure(path)
            unlink(path)
            throw error
        }
    }

    private func failure(_ path: String) -> ServerError {
        ServerError(
            "\(path) cannot be written: \(String(cString: strerror(errno))); check the data directory's owner and mode"
        )
    }
}

/// What sessions are made from, by what is spoken in them.
struct Certificates {
    let tls: TLSContext
    let dtls: TLSContext
    let https: TLSContext
    /// For ports where both are spoken.
    let shared: TLSContext
}

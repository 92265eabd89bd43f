import Foundation
import OpenSSLCrypto
import TURN

/// The key that signs nonces, kept so that a restart does not turn every client's nonce stale.
///
/// The file holds 32 random bytes, or 64 after a rotation: the present key and the one before it.
struct NonceKeyFile {
    let path: String

    init(dataDirectory: String) { self.init(path: dataDirectory + "/nonce.key") }

    init(path: String) { self.path = path }

    /// Reads the key, or makes one.
    func load() throws(ServerError) -> NonceKeys {
        if let bytes = try read() {
            guard bytes.count == 32 || bytes.count == 64 else {
                throw ServerError("\(path) is damaged; remove it, and a new one is made at the next start")
            }
            return NonceKeys(
                current: Array(bytes.prefix(32)),
                previous: bytes.count == 64 ? Array(bytes.suffix(32)) : nil
            )
        }
        let key = SecureRandom.bytes(32)
        try write(key)
        return NonceKeys(current: key)
    }

    private func read() throws(ServerError) -> [UInt8]? {
        // O_NOFOLLOW: a link here would be someone's attempt to have another file read as a key.
        let descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        if descriptor < 0 {
            if errno == ENOENT { return nil }
            throw failure("cannot be read")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure("cannot be read") }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o077 == 0 else {
            throw ServerError("\(path) can be read by others; run: chmod 600 '\(path)'")
        }
        var bytes = [UInt8](repeating: 0, count: 65)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        guard count >= 0 else { throw failure("cannot be read") }
        return Array(bytes.prefix(count))
    }

    func write(_ key: [UInt8]) throws(ServerError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure("cannot be written") }
        defer { close(descriptor) }
        guard Glibc.write(descriptor, key, key.count) == key.count, fsync(descriptor) == 0 else {
            unlink(path)
            throw failure("cannot be written")
        }
    }

    func failure(_ what: String) -> ServerError {
        ServerError("\(path) \(what): \(String(cString: strerror(errno))); check the data directory's owner and mode")
    }
}

import Foundation
import OpenSSLCrypto
import TURN

/// A new key each day, so that a stolen one is of use for two days and not for ever. The one before it still verifies:
/// with the longest lifetime of nonces, a day, every nonce that is still good is under one of the two, and a rotation
/// costs no client a 438.
extension NonceKeyFile {
    static let rotationSeconds: Int64 = 86_400

    /// Whether the file is older than a key may get. One from the future, from before a clock was set right, is as old.
    /// - Parameter now: seconds since 1970.
    func isDue(atSeconds now: Int64) -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0 else { return true }
        let (age, overflow) = now.subtractingReportingOverflow(Int64(status.st_mtim.tv_sec))
        return overflow || age >= Self.rotationSeconds || age <= -Self.rotationSeconds
    }

    /// Makes a new key in front of `keys.current` and puts both on disk. Whoever dies on the way leaves the old file.
    func rotate(_ keys: NonceKeys) throws(ServerError) -> NonceKeys {
        let new = NonceKeys(current: SecureRandom.bytes(32), previous: keys.current)
        let draft = NonceKeyFile(path: path + ".new")
        // Left over by one who died.
        unlink(draft.path)
        try draft.write(new.current + keys.current)
        guard rename(draft.path, path) == 0 else {
            let error = failure("cannot be replaced")
            unlink(draft.path)
            throw error
        }
        return new
    }
}

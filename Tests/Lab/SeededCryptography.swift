import OpenSSLCrypto
import STUN
import Synchronization

/// The real cryptography with random numbers from a seed, so that a server does the same in every run of it.
package final class SeededCryptography: Cryptography {
    private let real: OpenSSLCryptography
    private let dice: Mutex<Dice>

    package init(seed: UInt64) throws {
        real = try OpenSSLCryptography()
        dice = Mutex(Dice(seed: seed, for: "cryptography"))
    }

    package func random(_ output: UnsafeMutableRawBufferPointer) {
        dice.withLock { dice in
            for index in output.indices { output[index] = UInt8(truncatingIfNeeded: dice.next()) }
        }
    }

    package func authenticate(
        _ hash: HashAlgorithm,
        key: UnsafeRawBufferPointer,
        first: UnsafeRawBufferPointer,
        second: UnsafeRawBufferPointer,
        mac: UnsafeMutableRawBufferPointer
    ) {
        real.authenticate(hash, key: key, first: first, second: second, mac: mac)
    }

    package func digest(
        _ hash: HashAlgorithm,
        message: UnsafeRawBufferPointer,
        output: UnsafeMutableRawBufferPointer
    ) {
        real.digest(hash, message: message, output: output)
    }

    package func areEqual(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) -> Bool {
        real.areEqual(first, second)
    }
}

import COpenSSL

/// OpenSSL as a whole.
package enum OpenSSLLibrary {
    /// Keeps OpenSSL's state to the very end of the process: its own handler of `exit` would free it below threads that
    /// still close their sessions. To be called before anything else of this module; later it does nothing.
    package static func stayAtExit() { _ = isStaying }

    private static let isStaying = OPENSSL_init_crypto(UInt64(OPENSSL_INIT_NO_ATEXIT), nil) == 1
}

import COpenSSL

/// What is wrong with a certificate or key, where, and the mend: one line.
package struct TLSError: Error, CustomStringConvertible {
    package let description: String

    init(_ description: String) { self.description = description }

    /// OpenSSL's words for what failed first on this thread, and an empty error queue after it.
    ///
    /// The first is the cause; those behind it say which caller failed in turn.
    static func takeReason() -> String {
        defer { ERR_clear_error() }
        let code = ERR_peek_error()
        guard code != 0 else { return "no reason given" }
        return turnpike_error_reason(code).map { String(cString: $0) } ?? "OpenSSL error \(code)"
    }
}

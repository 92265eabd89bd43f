/// When the credentials end, by the server's clock.
extension SignalingSession {
    mutating func scheduleCredentialNotice(serverMilliseconds: Double, _ now: UInt64) {
        credentialNoticeAt = .max
        guard let left = millisecondsUntilExpiry(serverMilliseconds) else { return }
        let margin = min(SignalingClientLimits.credentialNoticeSeconds &* 1_000, left / 2)
        credentialNoticeAt = later(now, milliseconds: left &- margin)
    }

    func wrongOrExpired(_ now: UInt64) -> SignalingError {
        haveCredentialsExpired(now) ? .credentialsExpired : .wrongCredentials
    }

    /// Whether a time-limited credential is over by the server's clock, as far as that is known.
    func haveCredentialsExpired(_ now: UInt64) -> Bool {
        clock.milliseconds(atNanoseconds: now).flatMap(millisecondsUntilExpiry) == 0
    }

    func credentialsLeftMilliseconds(_ now: UInt64) -> UInt64 {
        clock.milliseconds(atNanoseconds: now).flatMap(millisecondsUntilExpiry) ?? 0
    }

    private func millisecondsUntilExpiry(_ serverMilliseconds: Double) -> UInt64? {
        credentials.expirySeconds.map {
            UInt64(exactly: max(0, Double($0) * 1_000 - serverMilliseconds).rounded()) ?? .max
        }
    }
}

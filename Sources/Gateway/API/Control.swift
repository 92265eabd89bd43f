/// What an operator may do with a running server. Every call may wait for the disk.
package protocol GatewayControl: Sendable {
    func users(after: String?, limit: Int) async throws(APIProblem) -> [UserView]
    func user(_ name: String) async throws(APIProblem) -> UserView
    func addUser(_ user: NewUser) async throws(APIProblem) -> PasswordView
    /// - Parameter password: nil for one that the server makes.
    func setPassword(_ name: String, _ password: String?) async throws(APIProblem) -> PasswordView
    func setEnabled(_ name: String, _ isEnabled: Bool) async throws(APIProblem) -> UserView
    func setLimits(_ name: String, _ limits: LimitsChange) async throws(APIProblem) -> UserView
    func removeUser(_ name: String) async throws(APIProblem)
    /// - Parameter month: `2026-11`; nil for the present one, or for all of one user's.
    func usage(user: String?, month: String?) async throws(APIProblem) -> [UsageView]

    func secrets() async throws(APIProblem) -> [SecretView]
    /// - Parameter value: nil for one that the server makes.
    func addSecret(_ name: String, _ value: String?) async throws(APIProblem) -> SecretView
    func removeSecret(_ name: String) async throws(APIProblem)

    func tokens() async throws(APIProblem) -> [TokenView]
    func createToken(_ token: NewToken) async throws(APIProblem) -> TokenView
    func revokeToken(_ name: String) async throws(APIProblem)

    /// - Parameter limit: of allocations in all.
    func allocations(user: String?, limit: Int) async -> AllocationList
    /// - Returns: whether there was such an allocation.
    func endAllocation(_ id: String) async -> Bool
    /// What the relay does; the gateway adds what it does itself.
    func relayStatus() async -> RelayStatusView
    func drain(seconds: Int) async
    /// - Returns: what was not taken; empty where all was.
    func reload() async -> ReloadView
}

/// An error as the API answers it (RFC 9457).
package struct APIProblem: Error, Sendable, Equatable {
    package let status: Int
    /// For a person: what was wrong and the mend.
    package let detail: String

    package init(_ status: Int, _ detail: String) {
        self.status = status
        self.detail = detail
    }
}

import HTTPTypes
import Hummingbird
import HummingbirdCore

/// The command line's verbs, for admins: below `/api/v1/admin`.
struct AdminRoutes: Sendable {
    let state: GatewayState
    let signaling: any SignalingQueries
    let directory: any GatewayDirectory
    let control: any GatewayControl

    func add(to router: Router<GatewayContext>) {
        let admin = router.group("/api/v1/admin").add(
            middleware: CallerMiddleware(state: state, directory: directory, isForAdmins: true)
        )
        addUsers(admin.group("/users"))
        addSecrets(admin.group("/secrets"))
        addTokens(admin.group("/tokens"))
        addSessions(admin.group("/sessions"))
        admin.get("/usage") { request, _ in
            Response.json(["usage": try await control.usage(user: nil, month: request.query("month"))])
        }
        admin.get("/status") { _, _ in await status() }
        admin.post("/drain") { request, _ in
            let seconds = try request.number("seconds", in: 0...86_400, default: 120)
            await control.drain(seconds: seconds)
            return Response(status: .accepted)
        }
        admin.post("/reload") { _, _ in
            let outcome = await control.reload()
            return Response.json(outcome, status: outcome.isReloaded ? .ok : .unprocessableContent)
        }
    }

    private func addUsers(_ users: RouterGroup<GatewayContext>) {
        users.get { request, _ in
            let limit = try request.number("limit", in: 1...1_000, default: 1_000)
            return Response.json(["users": try await control.users(after: request.query("after"), limit: limit)])
        }
        users.post { request, _ in
            Response.json(try await control.addUser(try await request.json(NewUser.self)), status: .created)
        }
        users.get("/:name") { _, context in
            Response.json(try await control.user(try context.part("name")))
        }
        users.delete("/:name") { _, context in
            try await control.removeUser(try context.part("name"))
            return Response.nothing
        }
        users.post("/:name/passwd") { request, context in
            let password = try await request.json(NewPassword.self).password
            return Response.json(try await control.setPassword(try context.part("name"), password))
        }
        users.post("/:name/enable") { _, context in
            Response.json(try await control.setEnabled(try context.part("name"), true))
        }
        users.post("/:name/disable") { _, context in
            Response.json(try await control.setEnabled(try context.part("name"), false))
        }
        users.patch("/:name") { request, context in
            let limits = try await request.json(LimitsChange.self)
            return Response.json(try await control.setLimits(try context.part("name"), limits))
        }
        users.get("/:name/usage") { request, context in
            let name = try context.part("name")
            return Response.json(["usage": try await control.usage(user: name, month: request.query("month"))])
        }
    }

    private struct NewPassword: APIBody {
        /// Null or absent for one that the server makes.
        let password: String?

        enum CodingKeys: String, CodingKey, CaseIterable {
            case password
        }
    }

    private struct NewSecret: APIBody {
        let name: String
        let value: String?

        enum CodingKeys: String, CodingKey, CaseIterable {
            case name, value
        }
    }

    private func addSecrets(_ secrets: RouterGroup<GatewayContext>) {
        secrets.get { _, _ in Response.json(["secrets": try await control.secrets()]) }
        secrets.post { request, _ in
            let new = try await request.json(NewSecret.self)
            return Response.json(try await control.addSecret(new.name, new.value), status: .created)
        }
        secrets.delete("/:name") { _, context in
            try await control.removeSecret(try context.part("name"))
            return Response.nothing
        }
    }

    private func addTokens(_ tokens: RouterGroup<GatewayContext>) {
        tokens.get { _, _ in Response.json(["tokens": try await control.tokens()]) }
        tokens.post { request, _ in
            Response.json(try await control.createToken(try await request.json(NewToken.self)), status: .created)
        }
        tokens.delete("/:name") { _, context in
            try await control.revokeToken(try context.part("name"))
            return Response.nothing
        }
    }

    private struct Sessions: Encodable {
        let allocations: [AllocationView]
        let allocationsAreCut: Bool
        let signaling: [SocketEntry]
    }

    private func addSessions(_ sessions: RouterGroup<GatewayContext>) {
        sessions.get { request, _ in
            let limit = try request.number("limit", in: 1...100_000, default: 1_000)
            let user = request.query("user")
            let list = await control.allocations(user: user, limit: limit)
            return Response.json(
                Sessions(
                    allocations: list.allocations,
                    allocationsAreCut: list.isCut,
                    signaling: await signaling.sessions(of: user, limit: limit)
                )
            )
        }
        sessions.delete("/:id") { _, context in
            let id = try context.part("id")
            if await control.endAllocation(id) { return Response.nothing }
            if await signaling.end(session: id) { return Response.nothing }
            throw APIProblem(404, "there is no session of that id; GET /api/v1/admin/sessions lists them")
        }
    }

    private struct Status: Encodable {
        let uptimeSeconds: UInt64
        let relay: RelayStatusView
        let signaling: SignalingOverview
        let gateway: Connections
    }

    private struct Connections: Encodable {
        let connections: Int
        let handshakes: Int
        let connectionsRefused: UInt64
    }

    private func status() async -> Response {
        let counts = state.tally.counts
        return .json(
            Status(
                uptimeSeconds: state.uptimeSeconds,
                relay: await control.relayStatus(),
                signaling: await signaling.overview(),
                gateway: Connections(
                    connections: counts.total,
                    handshakes: counts.handshakes,
                    connectionsRefused: counts.refused
                )
            )
        )
    }
}

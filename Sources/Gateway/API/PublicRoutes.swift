import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Synchronization

/// What anybody, or any user, may ask.
struct PublicRoutes: Sendable {
    let state: GatewayState
    let signaling: any SignalingQueries
    let directory: any GatewayDirectory

    func add(to router: Router<GatewayContext>) {
        router.get("/healthz") { _, _ in await health() }
        // What the test page asks before a login, and what every STUN client knows already.
        router.get("/api/v1/stun-servers") { _, _ in Response.json(["urls": directory.stunServers()]) }
        let users = router.group("/api/v1").add(
            middleware: CallerMiddleware(state: state, directory: directory, isForAdmins: false)
        )
        users.get("/ice-servers") { request, context in try await iceServers(request, context) }
        users.get("/rooms") { _, context in
            Response.json(["rooms": await signaling.rooms(visibleTo: context.scope)])
        }
        users.get("/rooms/:room/peers") { _, context in
            guard let peers = await signaling.peers(in: try context.part("room"), visibleTo: context.scope) else {
                // One answer, whether the room is not there or not the caller's to see (case SG-05).
                throw APIProblem(404, "there is no such room")
            }
            return peers.response
        }
        users.get("/stats") { _, context in await statistics(context) }
    }

    private struct Health: Encodable {
        let status: String
        let peers: Int
        let rooms: Int
        let uptime: UInt64
    }

    private func health() async -> Response {
        let overview = await signaling.overview()
        let isDraining = state.isDraining
        let health = Health(
            status: isDraining ? "draining" : "ok",
            peers: overview.peers,
            rooms: overview.rooms,
            uptime: state.uptimeSeconds
        )
        return .json(health, status: isDraining ? .serviceUnavailable : .ok)
    }

    private struct Statistics: Encodable {
        let totalPeers: Int
        let totalRooms: Int
        let activeConnections: Int
        let roomStats: [RoomEntry]
    }

    /// Totals are for admins: how busy others are is nobody's business.
    private func statistics(_ context: GatewayContext) async -> Response {
        let rooms = await signaling.rooms(visibleTo: context.scope)
        if context.caller?.isAdmin == true {
            let overview = await signaling.overview()
            return .json(
                Statistics(
                    totalPeers: overview.peers,
                    totalRooms: overview.rooms,
                    activeConnections: overview.connections,
                    roomStats: rooms
                )
            )
        }
        let own = await signaling.sessions(of: context.caller?.user ?? "", limit: GatewayLimits.sessionsListed)
        return .json(
            Statistics(
                totalPeers: own.reduce(0) { $0 + $1.peers.count },
                totalRooms: rooms.count,
                activeConnections: own.filter { $0.client != nil }.count,
                roomStats: rooms
            )
        )
    }

    private func iceServers(_ request: Request, _ context: GatewayContext) async throws -> Response {
        // An admin asks for somebody; a user for himself and nobody else (case SG-15).
        let asked = request.query("user")
        guard let user = context.caller?.user ?? asked, context.caller?.isAdmin == true || asked == nil || asked == user
        else {
            throw context.caller?.isAdmin == true
                ? APIProblem(400, "say for whom: ?user=NAME")
                : APIProblem(403, "credentials are handed out to their user alone")
        }
        let most = state.configuration.maxCredentialSeconds
        var seconds = min(GatewayLimits.credentialSeconds, most)
        if let text = request.query("ttl") {
            guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
                throw APIProblem(400, "ttl has to be a number of seconds")
            }
            seconds = min(max(Int(text) ?? Int.max, min(GatewayLimits.credentialSecondsMin, most)), most)
        }
        if let wait = state.waitForCredentials(user) {
            throw RefusedCaller(
                answer: .problem(
                    429,
                    "credentials are asked for too often; keep them until they end",
                    fields: [("Retry-After", "\(wait / 1_000 + 1)")]
                )
            )
        }
        guard let servers = await directory.iceServers(user: user, seconds: seconds) else {
            throw APIProblem(503, "there are no credentials to hand out just now; try again")
        }
        return .json(servers)
    }
}

extension GatewayContext {
    /// Whose rooms are shown: nil for all.
    fileprivate var scope: String? {
        caller?.isAdmin == true ? nil : caller?.user ?? ""
    }
}

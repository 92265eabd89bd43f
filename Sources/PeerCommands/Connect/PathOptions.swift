import ArgumentParser
import TurnpikeClient

/// Which paths to a peer will do.
struct PathOptions: ParsableArguments {
    @Flag(help: "Wait for a path without a relay, and fail where there is none.")
    var requireDirect = false

    @Flag(help: "Use relays alone, so that the peer does not learn this machine's addresses.")
    var requireRelay = false

    var requirement: ConnectOptions.Requirement { requireDirect ? .direct : requireRelay ? .relay : .any }

    func validate() throws {
        if requireDirect && requireRelay {
            throw ValidationError("--require-direct and --require-relay exclude each other")
        }
    }
}

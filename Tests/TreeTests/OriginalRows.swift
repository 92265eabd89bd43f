import Foundation

/// What docs/coming-from-self-streme.md promises, and the tests that show it.
enum OriginalRows {
    /// The first cell of each row of the page's tables; of one that the original lacks, the second.
    static func keys(of page: String) -> [String] {
        let rows = page.lines.filter { $0.hasPrefix("|") && !$0.hasPrefix("|---") && !$0.hasPrefix("| there |") }
        return rows.map { row in
            let cells = row.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            return cells.first { !$0.isEmpty } ?? ""
        }
    }

    static let folders = [
        "Tests/CoordinatorPair/", "Tests/Interop/test_cases_sg", "Tests/Interop/test_coordinator",
        "Tests/Interop/test_original", "Tests/Interop/test_peer_connect", "Tests/Interop/test_refusals",
        "Tests/TurnpikeClientTests/",
    ]

    /// By row. `life`, `options` and so on are scenes that `test_the_originals_coordinator` plays.
    static let tests: [String: [String]] = [
        // What is different at the root
        "the coordinator starts a signaling server on a port of its own": ["test_two_coordinators"],
        "signaling without authentication or encryption": [
            "test_SG_01_nothing_before_authentication", "test_an_id_of_another_user_is_refused",
        ],
        "\"connection data is not encrypted by default\"": ["test_two_coordinators"],
        "the strategy is chosen from the NATs' names, and then tried": ["test_two_coordinators"],
        "a relay is the last resort": [
            "test_two_coordinators",
            "test_between_nats_a_punched_path_that_is_cut_gives_way_to_the_relay_and_comes_back",
        ],
        "other peers are self-streme": ["test_two_coordinators"],
        // Constructor options
        "`signalingPort`": ["whatTheServerPrintsIsReadWhole", "test_the_originals_two_paths_have_its_fields"],
        "`stunServers`": ["whatTheServerPrintsIsReadWhole", "theNamesOfTheOriginalAreUnderstood"],
        "`turnServers`": ["serversMayBeJSONAsBrowsersHaveIt", "theNamesOfTheOriginalAreUnderstood"],
        "`localPort`": ["theOptionsHaveTheirDefaults", "life", "options"],
        "`keepAliveInterval`": ["theOptionsHaveTheirDefaults", "theNamesOfTheOriginalAreUnderstood"],
        "`connectionTimeout`": [
            "theOptionsHaveTheirDefaults", "test_a_peer_that_does_not_answer_is_named_in_time",
            "test_a_server_that_is_not_what_it_should_be_is_named",
        ],
        "`maxRetries`": ["theOptionsHaveTheirDefaults"],
        "`enableDetailedLogging`": ["theOptionsHaveTheirDefaults", "test_the_originals_coordinator"],
        // Methods
        "`await initialize()`": ["life", "nothingThatWorksIsNamedAtOnce"],
        "`registerPeer(peerId, metadata)`": ["life", "callsBeforeTheBeginningSayWhatToCall"],
        "`unregisterPeer(peerId)`": ["life", "callsBeforeTheBeginningSayWhatToCall"],
        "`await connectToPeer(peerId, options)`": ["life", "callsBeforeTheBeginningSayWhatToCall", "options"],
        "`getNATInfo()`": ["test_the_originals_two_paths_have_its_fields", "nothingIsKnownBeforeTheBeginning"],
        "`getStats()`": ["percentages", "nothingIsKnownBeforeTheBeginning"],
        "`getRecommendedStrategy()`": [
            "everyPairOfNATsHasItsMethodInBothDirections", "aloneItIsAgainstTheUsualHomeRouter",
        ],
        "`healthCheck()`": ["test_the_originals_two_paths_have_its_fields", "nothingIsKnownBeforeTheBeginning"],
        "`await shutdown()`": ["life", "afterTheEndCallsSayToMakeAnother"],
        // Events
        "`initialized`": ["life"],
        "`peerRegistered`": ["life"],
        "`connected`": ["life"],
        "`connectionFailed`": ["life"],
        "`shutdown`": ["life"],
        "`.pathChanged(connection, path)`, `.natChanged(info)`, `.disconnected(connection, reason:)`": [
            "life", "test_between_nats_a_punched_path_that_is_cut_gives_way_to_the_relay_and_comes_back",
        ],
        // Statistics
        "`registeredPeers`": ["percentages", "life"],
        "`activePeers`": ["percentages", "life"],
        "`totalConnections`": ["percentages"],
        "`successfulPunches`": ["percentages"],
        "`failedAttempts`": ["percentages"],
        "`uptime`": ["percentages", "nothingIsKnownBeforeTheBeginning"],
        "`performance.successRate`, `performance.failureRate`": ["percentages", "ratesAreThoseOfTheOriginalsExample"],
        // Endpoints
        "`GET /p2p/status`": ["test_the_originals_two_paths_have_its_fields"],
        "`GET /p2p/connect/{peerId}`": ["test_the_originals_two_paths_have_its_fields"],
        // Troubleshooting
        "\"P2P initialization failed\"": ["nothingThatWorksIsNamedAtOnce"],
        "\"Symmetric NAT detected but no TURN servers configured\"": [
            "test_a_symmetric_nat_without_a_relay_is_told_of_in_the_originals_words"
        ],
        "\"Peer not found\"": ["test_a_peer_that_nobody_knows_is_named_with_the_mend"],
        "\"Connection timeout\"": ["test_a_peer_that_does_not_answer_is_named_in_time"],
        "\"Port 8080 already in use\"": ["options", "test_a_port_in_use_is_named"],
    ]
}

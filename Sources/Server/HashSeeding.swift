/// Dictionaries keep names that strangers choose: with hashes that anybody can compute, a few thousand well-chosen ones
/// would make each look-up walk all of them (case RE-18). Swift seeds its hashes at random, unless this variable is
/// set.
enum HashSeeding {
    static let variable = "SWIFT_DETERMINISTIC_HASHING"

    /// - Throws: where the hashes of this process are not random. Its mere presence counts: the server has no use for
    ///   it.
    static func requireRandom(_ environment: [String: String]) throws(ServerError) {
        guard environment[variable] == nil else {
            throw ServerError(
                "\(variable) is set, which lets anyone make the server slow with names chosen for it; unset it"
            )
        }
    }
}

/// Why a description is of no use, as the end of a sentence about it.
struct LinkProblem: Error, Equatable {
    let text: String
    let reason: ConnectionFailure.Reason

    init(_ text: String, _ reason: ConnectionFailure.Reason = .description) {
        (self.text, self.reason) = (text, reason)
    }
}

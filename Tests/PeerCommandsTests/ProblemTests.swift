import PeerCommands
import Testing
import TurnpikeClient

@Suite struct ProblemTests {
    private func failure(_ reason: TURNFailure.Reason, code: UInt16? = nil, phrase: String = "") -> TURNFailure {
        TURNFailure(
            reason: reason,
            operation: .allocate,
            code: code,
            phrase: phrase,
            server: Example.server,
            transport: .udp
        )
    }

    @Test func aTimeLimitedUsernameThatHasExpiredIsToldFromAWrongOne() {
        let wrong = failure(.wrongCredentials, code: 401)
        let expired = Problem(wrong, username: "1700000000:alice", nowSeconds: 1_700_007_260)
        #expect(expired.code == .expiredCredentials && expired.message == "the credential expired 2h 1m ago")
        #expect(Problem(wrong, username: "1700000000:alice", nowSeconds: 1_699_999_999).code == .wrongCredentials)
        #expect(Problem(wrong, username: "alice", nowSeconds: 1_700_007_260).code == .wrongCredentials)
        #expect(Problem(wrong, username: "42", nowSeconds: 1_700_007_260).code == .wrongCredentials)
    }

    @Test func whatAServerSaysCannotDisturbTheTerminal() {
        let problem = Problem(failure(.unexpectedCode, code: 499, phrase: "\u{1B}[2J"), username: "a", nowSeconds: 0)
        #expect(problem.message.contains("\\u{1B}[2J") && !problem.message.contains("\u{1B}"))
    }

    @Test func theMendIsTakenFromBehindTheSemicolon() {
        let refused = Problem(NetworkFailure(.refused, "TCP to 192.0.2.1:3478"))
        #expect(refused.code == .refused)
        #expect(refused.message == "TCP to 192.0.2.1:3478: nothing listens there")
        #expect(refused.mend == "check the port and that the server runs")
    }
}

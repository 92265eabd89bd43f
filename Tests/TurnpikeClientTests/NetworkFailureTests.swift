import Testing
import TurnpikeClient

@Suite struct NetworkFailureTests {
    @Test func aFailureSaysWhatWasTriedAndTheMend() {
        let refused = NetworkFailure(.refused, "TCP to 192.0.2.1:3478")
        #expect(
            "\(refused)" == "TCP to 192.0.2.1:3478: nothing listens there; check the port and that the server runs"
        )
        let reset = NetworkFailure(.reset, "TLS to a", detail: "ECONNRESET")
        #expect("\(reset)" == "TLS to a: the connection was cut (ECONNRESET)")
        let certificate = NetworkFailure(.certificate, "TLS to a", detail: "the certificate expired; renew it")
        #expect("\(certificate)" == "TLS to a: the certificate expired; renew it")
    }
}

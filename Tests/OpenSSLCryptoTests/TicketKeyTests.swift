import COpenSSL
import Foundation
import Synchronization
import Testing

@testable import OpenSSLCrypto

/// Time that goes on when a test says so.
private final class Clock: Sendable {
    private let value = Mutex<Int64>(1_000)

    var seconds: Int64 { value.withLock { $0 } }

    func advance(_ seconds: Int64) { value.withLock { $0 += seconds } }
}

struct TicketKeyTests {
    private let clock = Clock()
    private let keys: TicketKeys

    init() {
        let clock = clock
        keys = TicketKeys { clock.seconds }
    }

    @Test func sealWithOneKeyForAPeriodAndWithAnotherFromThenOn() {
        let first = keys.current().bytes
        clock.advance(TicketKeys.periodSeconds - 1)
        #expect(keys.current().bytes == first)
        clock.advance(1)
        let second = keys.current().bytes
        #expect(second != first)
        #expect(second.prefix(16) != first.prefix(16), "a name of its own")
        #expect(TicketKeys.periodSeconds <= 86_400 / 2, "a day at most until nothing of a key is left")
    }

    @Test func openWithTheKeyBeforeForOnePeriodMore() {
        let name = Array(keys.current().name)
        func found() -> Bool? { name.withUnsafeBufferPointer { keys.key(named: $0)?.isCurrent } }
        #expect(found() == true)
        clock.advance(TicketKeys.periodSeconds)
        #expect(found() == false)
        clock.advance(TicketKeys.periodSeconds - 1)
        #expect(found() == false)
        clock.advance(1)
        #expect(found() == nil)
    }

    @Test func forgetBothAfterALongSilence() {
        let name = Array(keys.current().name)
        clock.advance(2 * TicketKeys.periodSeconds)
        #expect(name.withUnsafeBufferPointer { keys.key(named: $0) == nil })
    }

    /// A ticket from the start, used later: by whole handshakes, so that OpenSSL has its say.
    @Test(arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func resumeWhileTheKeyIsAcceptedAndNoLonger(version: Int32) throws {
        let files = try CertificateFiles()
        let pair = try files.makePair()
        let context = try TLSContext(
            kind: .tls,
            certificateChainPath: pair.certificate,
            privateKeyPath: pair.key,
            nowSeconds: Int64(Date().timeIntervalSince1970),
            applicationProtocols: TLSContext.turnProtocols,
            ticketKeys: keys
        )
        func connect(with ticket: OpaquePointer?) throws -> Client {
            let server = try TLSSession(context)
            let client = try Client { _ = turnpike_ctx_set_versions($0, version, version) }
            // A copy, for OpenSSL marks a session as spent when its connection ends without a farewell.
            let copy = ticket.flatMap { SSL_SESSION_dup($0) }
            defer { SSL_SESSION_free(copy) }
            if let copy { #expect(SSL_set_session(client.ssl, copy) == 1) }
            exchange(client, server)
            try #require(server.state == .established)
            // Takes the ticket of TLS 1.3 along.
            #expect(server.send([1]))
            client.receive(server.takeAll())
            #expect(client.readAll() == [1])
            return client
        }
        let first = try connect(with: nil)
        let ticket = SSL_get1_session(first.ssl)
        defer { SSL_SESSION_free(ticket) }
        #expect(SSL_session_reused(try connect(with: ticket).ssl) == 1)
        clock.advance(TicketKeys.periodSeconds)
        let renewed = try connect(with: ticket)
        #expect(SSL_session_reused(renewed.ssl) == 1, "the key before is accepted")
        let newTicket = SSL_get1_session(renewed.ssl)
        defer { SSL_SESSION_free(newTicket) }
        clock.advance(TicketKeys.periodSeconds)
        #expect(SSL_session_reused(try connect(with: ticket).ssl) == 0, "two periods on, it is not")
        #expect(SSL_session_reused(try connect(with: newTicket).ssl) == 1, "but the ticket that came with it is")
    }
}

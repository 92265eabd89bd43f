import Glibc
import NIOCore
import NIOPosix

// Two relays on one TURN server by the client library, and datagrams from one to the other and back:
//
//     relay-client HOST PORT TRANSPORT USER PASSWORD COUNT [AUTHORITIES]
//
// prints one line of JSON with what became of them, and ends with 0 where nothing was lost.

guard let plan = ExchangePlan(Array(CommandLine.arguments.dropFirst())) else {
    print("usage: relay-client HOST PORT udp|tcp|tls|dtls USER PASSWORD COUNT [AUTHORITIES]")
    exit(64)
}
let loop = MultiThreadedEventLoopGroup.singleton.next()
let ended = loop.makePromise(of: Int32.self)
loop.execute { Exchange(plan, loop, ended).begin() }
exit(try await ended.futureResult.get())

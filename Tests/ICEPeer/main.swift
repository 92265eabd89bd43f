import Glibc
import NIOCore
import NIOPosix
import OpenSSLCrypto
import TurnpikeClient

// Our ICE agent on real sockets, without DTLS above it, for agents that are not ours:
//
//     ice-peer controlling|controlled [address=IP]... [stun=IP:PORT] [turn=IP:PORT:USER:PASSWORD] [relay-only]
//
// Lines of standard input tell it of the peer and what to do; what it has to tell is on standard output, in JSON, one
// object a line. It sends back what begins with Q, with an R in its place.

guard let plan = ICEPlan(Array(CommandLine.arguments.dropFirst())) else {
    print("usage: ice-peer controlling|controlled [address=IP]... [stun=IP:PORT]")
    print("                [turn=IP:PORT:USER:PASSWORD] [relay-only]")
    exit(64)
}
// Whoever has started it may be gone.
alarm(60)
let loop = MultiThreadedEventLoopGroup.singleton.next()
let peer = try await loop.submit {
    let network = NIONetwork(loop, cryptography: try OpenSSLCryptography())
    return NIOLoopBound(ICEPeer(plan, network), eventLoop: loop)
}.get()
loop.execute { peer.value.begin() }
while let line = readLine() {
    loop.execute { peer.value.obey(line) }
}
try await loop.submit { peer.value.close() }.get()

import DataChannels
import Glibc

// The other end of data channels for the tests, over UDP on loopback in place of DTLS:
//
//     data-channel-echo          prints its port, sends every message back to the first peer that says something
//     data-channel-echo bench    prints how many megabytes two associations in one process carry in a second of CPU
//     time
//
// A text is an order as well: `open LABEL`, `close` the channel it came on, `shutdown`.

switch CommandLine.arguments.dropFirst().first {
case nil: try EchoPeer().run()
case "bench": try Bench().run()
default:
    print("usage: data-channel-echo [bench]")
    exit(64)
}

import DataChannels
import Glibc

// The other end of data channels for the tests, over UDP on loopback in place of DTLS:
//
//     data-channel-echo          prints its port, sends every message back to the first peer that says something
//     data-channel-echo bench    prints how many megabytes two associations in one process carry in a second of CPU
//     time
//     data-channel-echo sink     prints its port, counts what `source` sends, and prints how much it was in a second
//     data-channel-echo source PORT    sends to it for five seconds
//
// A text is an order as well: `open LABEL`, `close` the channel it came on, `shutdown`.

switch CommandLine.arguments.dropFirst().first {
case nil: try EchoPeer().run()
case "bench": try Bench().run()
case "sink": try Throughput(port: nil).run()
case "source":
    guard CommandLine.arguments.count == 3, let port = UInt16(CommandLine.arguments[2]) else { fallthrough }
    try Throughput(port: port).run()
default:
    print("usage: data-channel-echo [bench | sink | source PORT]")
    exit(64)
}

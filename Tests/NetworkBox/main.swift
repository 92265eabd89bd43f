import Foundation
import Netns

/// What stands between two networks of the laboratory. It ends with its standard input, so that nothing is left behind
/// when a test dies.
///
///     network-box link NAMESPACE:DEVICE NAMESPACE:DEVICE SEED [NAME=VALUE …]
///
/// prints `ready` when the devices are there, and then an answer to each line of its standard input.
func run(_ arguments: [String]) throws {
    guard arguments.first == "link", arguments.count >= 4, let seed = UInt64(arguments[3]) else {
        throw Usage()
    }
    var emulator = try LinkEmulator(arguments[1], arguments[2], seed: seed)
    for word in arguments.dropFirst(4) {
        for direction in LinkEmulator.Direction.allCases { try emulator.change(direction) { try $0.apply(word) } }
    }
    say("ready")
    Waiter.bePunctual()
    var waiter = Waiter(emulator.descriptors + [0])
    var lines = ControlLines()
    while !lines.hasEnded {
        waiter.wait(until: emulator.nextArrival)
        emulator.work()
        if waiter.isReady(2) { for line in lines.read() { say(emulator.obey(line)) } }
    }
}

func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

struct Usage: Error, CustomStringConvertible {
    let description = "usage: network-box link NAMESPACE:DEVICE NAMESPACE:DEVICE SEED [NAME=VALUE …]"
}

do {
    try run(Array(CommandLine.arguments.dropFirst()))
} catch {
    FileHandle.standardError.write(Data("network-box: \(error)\n".utf8))
    exit(1)
}

import Foundation
import Netns

/// What stands between two networks of the laboratory. It ends with its standard input, so that nothing is left behind
/// when a test dies.
let usage = """
    usage: network-box link NAMESPACE:DEVICE NAMESPACE:DEVICE SEED [NAME=VALUE …]
           network-box nat PROFILE NAMESPACE:INSIDE NAMESPACE:OUTSIDE SEED addresses=ADDRESS,… [NAME=VALUE …]
           network-box pairs
           network-box verdicts [PROFILE[/PROFILE…] …]
    """

struct UsageError: Error, CustomStringConvertible {
    let description = usage
}

func run(_ arguments: [String]) throws {
    switch (arguments.first, arguments.count) {
    case ("link", 4...):
        guard let seed = UInt64(arguments[3]) else { throw UsageError() }
        try link(arguments[1], arguments[2], seed, arguments.dropFirst(4))
    case ("nat", 5...):
        guard let seed = UInt64(arguments[4]) else { throw UsageError() }
        let setup = try NATSetup(profile: arguments[1], arguments.dropFirst(5))
        try nat(setup, arguments[2], arguments[3], seed)
    case ("pairs", 1): for line in try VirtualVerdict.pairs() { say(line) }
    case ("verdicts", _): for line in try VirtualVerdict.lines(Array(arguments.dropFirst())) { say(line) }
    default: throw UsageError()
    }
}

/// Prints `ready` when the devices are there, and then an answer to each line of its standard input.
func link(_ one: String, _ other: String, _ seed: UInt64, _ words: some Sequence<String>) throws {
    var emulator = try LinkEmulator(one, other, seed: seed)
    for word in words {
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

/// As `link`.
func nat(_ setup: NATSetup, _ inside: String, _ outside: String, _ seed: UInt64) throws {
    var box = try NATBox(inside: inside, outside: outside, setup, seed: seed)
    say("ready")
    Waiter.bePunctual()
    var waiter = Waiter(box.descriptors + [0])
    var lines = ControlLines()
    while !lines.hasEnded {
        waiter.wait(until: nil)
        box.work()
        if waiter.isReady(2) { for line in lines.read() { say(box.obey(line)) } }
    }
}

func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

do {
    try run(Array(CommandLine.arguments.dropFirst()))
} catch {
    FileHandle.standardError.write(Data("network-box: \(error)\n".utf8))
    exit(1)
}

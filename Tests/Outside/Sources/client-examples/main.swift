import TurnpikeClient

// Runs an example of the documents, configured by the environment:
//
//     client-examples NAME

let examples: [String: @Sendable () async throws -> Void] = [
    "answer": GettingStarted.answer,
    "call": GettingStarted.call,
    "change": Configured.change,
    "channels": PathsAndRelays.channels,
    "conversation": Configured.conversation,
    "follow": PathsAndRelays.follow,
    "from-self-streme": FromSelfStreme.basicUsage,
    "health": Configured.health,
    "in-short": Configured.inShort,
    "require": PathsAndRelays.require,
    "why": PathsAndRelays.why,
]

if let example = CommandLine.arguments.dropFirst().first.flatMap({ examples[$0] }) {
    try await example()
} else {
    print("usage: client-examples NAME; names: \(examples.keys.sorted().joined(separator: ", "))")
}

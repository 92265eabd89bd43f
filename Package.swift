// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "turnpike",
    products: [.library(name: "TurnpikeClient", targets: ["TurnpikeClient"])],
    dependencies: [
        // Why each is here: docs/architecture.md.
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // What each target is for, and what it may import: docs/architecture.md.
        .target(
            name: "Accounts",
            dependencies: [.product(name: "GRDB", package: "GRDB.swift")],
            swiftSettings: settings
        ),
        .target(name: "CLinux", cSettings: [.define("_GNU_SOURCE")]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "libssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CUsrSCTP", providers: [.apt(["libusrsctp-dev"])]),
        .target(
            name: "CommandConsole",
            dependencies: [.product(name: "ArgumentParser", package: "swift-argument-parser")],
            swiftSettings: settings
        ),
        .target(
            name: "Commands",
            dependencies: [
                "Accounts", "CommandConsole", "Server", "Settings",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings
        ),
        .target(name: "DataChannels", dependencies: ["CUsrSCTP"], swiftSettings: settings),
        .target(
            name: "Gateway",
            dependencies: [
                "OpenSSLCrypto", "Signaling",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ],
            // Compiled in: the binary is the whole installation.
            resources: ["admin.html", "admin.js", "icon.svg", "plot.js", "style.css", "test.html", "test.js"].map {
                .embedInCode("Pages/\($0)")
            },
            swiftSettings: settings
        ),
        .target(name: "LinuxIO", dependencies: ["CLinux"], swiftSettings: settings),
        .target(name: "OpenSSLCrypto", dependencies: ["COpenSSL", "STUN"], swiftSettings: settings),
        .target(
            name: "PeerCommands",
            dependencies: [
                "CommandConsole", "TurnpikeClient",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "Relay",
            dependencies: ["LinuxIO", "OpenSSLCrypto", "STUN", "TURN"],
            swiftSettings: settings
        ),
        .target(name: "STUN", swiftSettings: settings),
        .target(
            name: "Server",
            dependencies: [
                "Accounts", "Gateway", "LinuxIO", "OpenSSLCrypto", "Relay", "STUN", "Settings", "Signaling",
                "TURN",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "Settings",
            dependencies: [.product(name: "Yams", package: "Yams")],
            swiftSettings: settings
        ),
        .target(name: "Signaling", swiftSettings: settings),
        .target(name: "TURN", dependencies: ["STUN"], swiftSettings: settings),
        .target(name: "Traversal", dependencies: ["STUN"], swiftSettings: settings),
        .target(
            name: "TurnpikeClient",
            dependencies: [
                "DataChannels", "OpenSSLCrypto", "Signaling", "Traversal",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .executableTarget(name: "turnpike", dependencies: ["Commands"], swiftSettings: settings),
        .executableTarget(name: "turnpike-peer", dependencies: ["PeerCommands"], swiftSettings: settings),

        // What the tests of several targets need.
        .target(
            name: "TestSupport",
            path: "Tests/TestSupport",
            swiftSettings: settings,
            // So that usrsctp and OpenSSL find VirtualClock's before the C library's.
            linkerSettings: [.unsafeFlags(["-Xlinker", "--export-dynamic-symbol=gettimeofday"])]
        ),
        // The internet in which the protocols are tested. Optimised in debug builds too, five times as fast: tests run
        // millions of its events.
        .target(
            name: "Lab",
            dependencies: ["OpenSSLCrypto", "STUN", "Signaling", "TURN", "TestSupport", "Traversal"],
            path: "Tests/Lab",
            swiftSettings: settings + [.unsafeFlags(["-O"])]
        ),
        .testTarget(
            name: "AccountsTests",
            dependencies: ["Accounts", .product(name: "GRDB", package: "GRDB.swift")],
            swiftSettings: settings
        ),
        .testTarget(name: "CommandsTests", dependencies: ["Accounts", "Commands"], swiftSettings: settings),
        .testTarget(
            name: "DataChannelsTests",
            dependencies: ["DataChannels", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "GatewayTests",
            dependencies: [
                "Gateway", "Signaling",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "LabTests",
            dependencies: ["Lab", "OpenSSLCrypto", "STUN", "Signaling", "TURN", "Traversal"],
            swiftSettings: settings
        ),
        // Boxes between real networks: links and NATs.
        .target(name: "CTunnel", path: "Tests/CTunnel", cSettings: [.define("_GNU_SOURCE")]),
        .target(
            name: "Netns",
            dependencies: ["CTunnel", "Lab", "LinuxIO", "STUN", "Traversal"],
            path: "Tests/Netns",
            exclude: ["README.md", "matrix", "times"],
            swiftSettings: settings
        ),
        // Stands between the namespaces of the tests; it is in no product of ours.
        .executableTarget(
            name: "network-box",
            dependencies: ["Netns"],
            path: "Tests/NetworkBox",
            swiftSettings: settings
        ),
        .testTarget(
            name: "LinuxIOTests",
            dependencies: ["CLinux", "LinuxIO", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(name: "NetnsTests", dependencies: ["Lab", "Netns", "STUN"], swiftSettings: settings),
        .testTarget(
            name: "OpenSSLCryptoTests",
            dependencies: ["COpenSSL", "OpenSSLCrypto", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "PeerCommandsTests",
            dependencies: ["PeerCommands", "TurnpikeClient"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "RelayTests",
            dependencies: ["LinuxIO", "OpenSSLCrypto", "Relay", "STUN", "TURN", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "STUNTests",
            dependencies: ["OpenSSLCrypto", "STUN", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "ServerTests",
            dependencies: ["Accounts", "OpenSSLCrypto", "Server", "Settings", "TURN"],
            swiftSettings: settings
        ),
        .testTarget(name: "SettingsTests", dependencies: ["Settings"], swiftSettings: settings),
        .testTarget(name: "SignalingTests", dependencies: ["Signaling"], swiftSettings: settings),
        .testTarget(
            name: "TURNTests",
            dependencies: ["OpenSSLCrypto", "STUN", "TURN", "TestSupport"],
            swiftSettings: settings
        ),
        .testTarget(
            name: "TraversalTests",
            dependencies: ["OpenSSLCrypto", "STUN", "TURN", "TestSupport", "Traversal"],
            swiftSettings: settings
        ),
        .testTarget(name: "TreeTests", swiftSettings: settings),
        .testTarget(
            name: "TurnpikeClientTests",
            dependencies: [
                "DataChannels", "Lab", "OpenSSLCrypto", "STUN", "Signaling", "TURN", "TestSupport", "Traversal",
                "TurnpikeClient",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ],
            swiftSettings: settings
        ),
        // The examples of the documents. Without this package's access, they see what any other package sees.
        .executableTarget(
            name: "client-examples",
            dependencies: ["TurnpikeClient"],
            path: "Tests/Outside/Sources/client-examples",
            packageAccess: false,
            swiftSettings: settings
        ),
        // Two coordinators in one program, for the tests of the client library; it is in no product of ours.
        .executableTarget(
            name: "coordinator-pair",
            dependencies: ["TurnpikeClient"],
            path: "Tests/CoordinatorPair",
            swiftSettings: settings
        ),
        // The other end of data channels for implementations that are not ours; it is in no product of ours.
        .executableTarget(
            name: "data-channel-echo",
            dependencies: ["DataChannels"],
            path: "Tests/DataChannelEcho",
            swiftSettings: settings
        ),
        // Our ICE agent for agents that are not ours; it is in no product of ours.
        .executableTarget(
            name: "ice-peer",
            dependencies: [
                "OpenSSLCrypto", "Traversal", "TurnpikeClient",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            path: "Tests/ICEPeer",
            swiftSettings: settings
        ),
        // The client library's relays on any TURN server; it is in no product of ours.
        .executableTarget(
            name: "relay-client",
            dependencies: [
                "OpenSSLCrypto", "Traversal", "TurnpikeClient",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            path: "Tests/RelayClient",
            swiftSettings: settings
        ),
        // What the suites of WebSocket cases talk to; it is in no product of ours.
        .executableTarget(
            name: "websocket-echo",
            dependencies: [
                "Gateway",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ],
            path: "Tests/WebSocketEcho",
            swiftSettings: settings
        ),
    ]
)

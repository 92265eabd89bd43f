// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "turnpike",
    dependencies: [],
    targets: [
        // What each target is for, and what it may import: docs/architecture.md.
        .target(name: "CLinux", cSettings: [.define("_GNU_SOURCE")]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "libssl", providers: [.apt(["libssl-dev"])]),
        .target(name: "LinuxIO", dependencies: ["CLinux"], swiftSettings: settings),
        .target(name: "OpenSSLCrypto", dependencies: ["COpenSSL", "STUN"], swiftSettings: settings),
        .target(
            name: "Relay", dependencies: ["TURN", "STUN", "LinuxIO", "OpenSSLCrypto"], swiftSettings: settings),
        .target(name: "STUN", swiftSettings: settings),
        .target(name: "TURN", dependencies: ["STUN"], swiftSettings: settings),
        .testTarget(name: "LinuxIOTests", dependencies: ["CLinux", "LinuxIO"], swiftSettings: settings),
    ]
)

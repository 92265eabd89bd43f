// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

let package = Package(
    name: "turnpike",
    dependencies: [],
    targets: [
        // What each target is for, and what it may import: docs/architecture.md.
        .systemLibrary(name: "COpenSSL", pkgConfig: "libssl", providers: [.apt(["libssl-dev"])]),
        .target(name: "OpenSSLCrypto", dependencies: ["COpenSSL", "STUN"], swiftSettings: settings),
        .target(name: "STUN", swiftSettings: settings),
        .target(name: "TURN", dependencies: ["STUN"], swiftSettings: settings),
    ]
)

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
        .target(name: "STUN", swiftSettings: settings)
    ]
)

// swift-tools-version: 6.0
import PackageDescription

// What somebody who uses the library has: this manifest, and sources that import TurnpikeClient and nothing else of
// ours. The tests compile the same sources within our own package, without its access; `build` beside this file builds
// them as here, from nothing.
let package = Package(
    name: "outside",
    dependencies: [.package(name: "turnpike", path: "../..")],
    targets: [
        .executableTarget(
            name: "client-examples",
            dependencies: [.product(name: "TurnpikeClient", package: "turnpike")]
        )
    ]
)

/// What this build calls itself, by semantic versioning.
package enum Version {
    package static let current = "0.1.0"
}

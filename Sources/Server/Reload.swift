import Settings

/// What of new settings a running server can take: sockets, threads and the log's form are what they were at the start.
struct Reload {
    /// The new ones, with the old values of what stays.
    let settings: Settings
    /// Keys that differ and stay.
    let refused: [String]

    init(from old: Settings, to new: Settings) {
        var settings = new
        var refused: [String] = []
        func keep<Value: Equatable>(_ path: WritableKeyPath<Settings, Value>, _ key: String) {
            guard old[keyPath: path] != new[keyPath: path] else { return }
            settings[keyPath: path] = old[keyPath: path]
            refused.append(key)
        }
        keep(\.listen, "listen")
        keep(\.workers, "workers")
        keep(\.dataDirectory, "data_dir")
        keep(\.externalAddress, "external_address")
        keep(\.relay.addresses, "relay.addresses")
        keep(\.relay.minPort, "relay.min_port")
        keep(\.relay.maxPort, "relay.max_port")
        keep(\.limits.memoryBytes, "limits.memory_bytes")
        keep(\.signaling.threads, "signaling.threads")
        keep(\.admin.socket, "admin.socket")
        keep(\.log.level, "log.level")
        keep(\.log.format, "log.format")
        self.settings = settings
        self.refused = refused
    }
}

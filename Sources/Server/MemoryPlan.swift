import Foundation
import Settings

/// How much the server may hold in the memory there is, so that it refuses before the kernel kills it (case RE-16).
struct MemoryPlan: Sendable, Equatable {
    /// What the plan was made for.
    let bytes: Int
    /// Where that number comes from: `limits.memory_bytes`, `the cgroup` or `the machine`.
    let origin: String
    /// Allocations of all workers.
    let allocations: Int
    /// Connections by TCP and TLS, of all workers.
    let connections: Int
    /// What all connections together may have waiting to be sent.
    let queueBytes: Int

    /// What each thing costs at most, or nearly: docs/operations.md says how it was measured.
    enum Cost {
        /// The server with nothing to do, its caches full, and room for what the kernel keeps of arriving packets.
        static let base = 96 << 20
        /// A UDP allocation with some dozens of permissions: 4 KiB of ours, 3 KiB of the kernel's for the socket, and
        /// 9 KiB for permissions and channels.
        static let allocation = 16 << 10
        /// A TLS session, 19 KiB of ours when idle, with the kernel's socket and a frame that is half there. Plain TCP
        /// costs less, and is counted the same.
        static let connection = 64 << 10
    }

    /// - Parameters:
    ///   - configuredBytes: `limits.memory_bytes`; 0 to look at cgroup and machine.
    ///   - root: in front of `/proc` and `/sys`, for tests.
    init(configuredBytes: Int, root: String = "") {
        if configuredBytes > 0 {
            self.init(bytes: configuredBytes, origin: "limits.memory_bytes")
            return
        }
        let files = SystemFiles(root: root)
        let machine = files.availableBytes ?? Self.unknownBytes
        guard let group = files.groupLimitBytes, group < machine else {
            self.init(bytes: machine, origin: "the machine")
            return
        }
        self.init(bytes: group, origin: "the cgroup")
    }

    /// A quarter of what is left over the base goes to queues, and three eighths each to allocations and connections.
    init(bytes: Int, origin: String) {
        self.bytes = bytes
        self.origin = origin
        let free = max(bytes - Cost.base, Self.leastBytes)
        allocations = free / 8 * 3 / Cost.allocation
        connections = free / 8 * 3 / Cost.connection
        queueBytes = free / 4
    }

    /// Whether so little is left that a few clients will be refused; a warning says so.
    var isTight: Bool { bytes - Cost.base <= Self.leastBytes }

    /// Enough for some hundreds of allocations: who gives less is served as if it were that.
    private static let leastBytes = 16 << 20
    /// Where not even `/proc` can be read.
    private static let unknownBytes = 1 << 30
}

/// What the kernel says of memory.
private struct SystemFiles {
    let root: String

    /// `MemAvailable`: what can be had without swapping.
    var availableBytes: Int? {
        guard let text = text("/proc/meminfo") else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
            let words = line.split(separator: " ")
            guard words.count >= 2, let kibibytes = Int(words[1]) else { return nil }
            let (bytes, isTooMuch) = kibibytes.multipliedReportingOverflow(by: 1024)
            return isTooMuch ? nil : bytes
        }
        return nil
    }

    /// The lowest limit of this process's cgroup and of those above it; nil where there is none.
    var groupLimitBytes: Int? {
        guard let text = text("/proc/self/cgroup") else { return nil }
        var limits: [Int] = []
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            // Version 2 has one line without controllers, version 1 one that names them.
            if parts[0] == "0", parts[1].isEmpty {
                limits += values("/sys/fs/cgroup", parts[2], "memory.max")
            } else if parts[1].split(separator: ",").contains("memory") {
                limits += values("/sys/fs/cgroup/memory", parts[2], "memory.limit_in_bytes")
            }
        }
        // Version 1 says "no limit" by a number that no machine has.
        return limits.filter { $0 > 0 && $0 < 1 << 50 }.min()
    }

    /// The file's number in the group and in every one above it. A container may not see the group by the name that the
    /// kernel gives it, and then finds its own at the top.
    private func values(_ mount: String, _ group: Substring, _ name: String) -> [Int] {
        var parts = group.split(separator: "/").filter { $0 != "." && $0 != ".." }
        var found: [Int] = []
        while true {
            let path = ([mount] + parts.map(String.init) + [name]).joined(separator: "/")
            if let text = text(path), let value = Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) {
                found.append(value)
            }
            if parts.popLast() == nil { return found }
        }
    }

    private func text(_ path: String) -> String? {
        FileManager.default.contents(atPath: root + path).map { String(decoding: $0, as: UTF8.self) }
    }
}

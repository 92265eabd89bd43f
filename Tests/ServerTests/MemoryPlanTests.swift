import Foundation
import Testing

@testable import Server

/// RE-16: what fits into the memory there is.
@Suite struct MemoryPlanTests {
    @Test func re16_whatIsPlannedFitsIntoWhatThereIs() {
        for mebibytes in [128, 256, 512, 1_024, 24_576] {
            let plan = MemoryPlan(bytes: mebibytes << 20, origin: "a test")
            let cost = MemoryPlan.Cost.self
            let sum =
                cost.base + plan.allocations * cost.allocation + plan.connections * cost.connection + plan.queueBytes
            #expect(sum <= plan.bytes && !plan.isTight)
            #expect(plan.allocations > 0 && plan.connections > 0)
        }
        #expect(MemoryPlan(bytes: 256 << 20, origin: "").allocations == 3_840)
    }

    @Test(arguments: [-1, 0, 1, 64 << 20, 96 << 20])
    func re16_whoGivesTooLittleIsServedALittleAndTold(_ bytes: Int) {
        let plan = MemoryPlan(bytes: bytes, origin: "a test")
        #expect(plan.isTight)
        #expect(plan.allocations >= 100 && plan.connections >= 50)
    }

    @Test func re16_theConfigurationsNumberCountsBeforeWhatTheMachineSays() throws {
        let root = try Root(["/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    2097152 kB\n"])
        #expect(MemoryPlan(configuredBytes: 1 << 30, root: root.path).bytes == 1 << 30)
        #expect(MemoryPlan(configuredBytes: 0, root: root.path) == MemoryPlan(bytes: 2 << 30, origin: "the machine"))
    }

    @Test func re16_theLowestLimitOfTheCgroupsAboveCounts() throws {
        let root = try Root([
            "/proc/meminfo": "MemAvailable: 8388608 kB\n",
            "/proc/self/cgroup": "0::/system.slice/turnpike.service\n",
            "/sys/fs/cgroup/system.slice/turnpike.service/memory.max": "max\n",
            "/sys/fs/cgroup/system.slice/memory.max": "536870912\n",
        ])
        #expect(MemoryPlan(configuredBytes: 0, root: root.path) == MemoryPlan(bytes: 512 << 20, origin: "the cgroup"))
    }

    @Test func re16_versionOneAndContainersAreReadToo() throws {
        let first = try Root([
            "/proc/meminfo": "MemAvailable: 8388608 kB\n",
            "/proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/a/b\n1:name=systemd:/\n0::/\n",
            "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "268435456\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        ])
        #expect(MemoryPlan(configuredBytes: 0, root: first.path).bytes == 256 << 20)
        // In a container the name is the host's, and the group's files stand at the top.
        let second = try Root([
            "/proc/meminfo": "MemAvailable: 8388608 kB\n",
            "/proc/self/cgroup": "0::/../../docker/abc\n",
            "/sys/fs/cgroup/memory.max": "1073741824\n",
        ])
        #expect(MemoryPlan(configuredBytes: 0, root: second.path).bytes == 1 << 30)
    }

    @Test func re16_whatCannotBeReadIsNoLimit() throws {
        let root = try Root([
            "/proc/meminfo": "MemAvailable: lots kB\n", "/proc/self/cgroup": "nonsense\n0::\n::::\n",
            "/sys/fs/cgroup/memory.max": "-5\n",
        ])
        let plan = MemoryPlan(configuredBytes: 0, root: root.path)
        #expect(plan.origin == "the machine" && plan.bytes == 1 << 30)
    }
}

/// A file system of a few files.
private final class Root {
    let path = NSTemporaryDirectory() + "memory-plan-" + UUID().uuidString

    init(_ files: [String: String]) throws {
        for (name, text) in files {
            let file = URL(fileURLWithPath: path + name)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(),
                withIntermediateDirectories: true
            )
            try Data(text.utf8).write(to: file)
        }
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

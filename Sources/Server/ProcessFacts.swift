import Foundation
import Gateway

/// What the kernel says of this process, by the names that Prometheus' own clients give it.
struct ProcessFacts: Sendable {
    let startedSeconds: Double
    let descriptorLimit: Int
    private let cpuSeconds: Double
    private let residentBytes: Int?
    private let virtualBytes: Int?
    private let descriptors: Int?

    /// - Parameters:
    ///   - startedSeconds: since 1970.
    ///   - descriptorLimit: how many files may be open.
    init(startedSeconds: Double, descriptorLimit: Int) {
        self.startedSeconds = startedSeconds
        self.descriptorLimit = descriptorLimit
        var time = timespec()
        let isKnown = clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0
        cpuSeconds = isKnown ? Double(time.tv_sec) + Double(time.tv_nsec) / 1e9 : 0
        let pages = FileManager.default.contents(atPath: "/proc/self/statm").map {
            String(decoding: $0, as: UTF8.self).split(separator: " ").compactMap { Int($0) }
        }
        let pageBytes = Int(sysconf(Int32(_SC_PAGESIZE)))
        virtualBytes = pages.flatMap { $0.count > 1 ? $0[0] &* pageBytes : nil }
        residentBytes = pages.flatMap { $0.count > 1 ? $0[1] &* pageBytes : nil }
        descriptors = Self.openDescriptors()
    }

    func write(_ page: inout MetricsText) {
        page.begin("process_cpu_seconds_total", .counter, "Time of all threads, in the program and the kernel.")
        page.sample(cpuSeconds)
        if let residentBytes { page.gauge("process_resident_memory_bytes", "Memory in use.", residentBytes) }
        if let virtualBytes { page.gauge("process_virtual_memory_bytes", "Addresses in use.", virtualBytes) }
        if let descriptors { page.gauge("process_open_fds", "Files and sockets that are open.", descriptors) }
        page.gauge("process_max_fds", "Files and sockets that may be open.", descriptorLimit)
        page.begin("process_start_time_seconds", .gauge, "When the server started, in seconds since 1970.")
        page.sample(startedSeconds)
    }

    /// Counted one by one: a list of names would be megabytes with a hundred thousand allocations.
    private static func openDescriptors() -> Int? {
        guard let directory = opendir("/proc/self/fd") else { return nil }
        defer { closedir(directory) }
        var count = 0
        while let entry = readdir(directory) {
            // Not `.` and `..`.
            if entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { count += 1 }
        }
        // One is the directory that is being read.
        return max(count - 1, 0)
    }
}

import Traversal

/// How often mappings are used so that NATs keep them: as the configuration says, and more often where a NAT was
/// measured to forget them sooner.
enum KeepAlive {
    /// - Parameter longest: nanoseconds, of the configuration.
    static func interval(_ longest: UInt64, _ findings: NATFindings) -> UInt64 {
        let wanted = max(longest, ClientLimits.second)
        let lifetimes = [findings.ipv4, findings.ipv6].compactMap { $0?.lifetime.value?.atLeastSeconds }
        guard let shortest = lifetimes.min() else { return wanted }
        // A fifth of it is slack for a packet that is lost and sent again, and for a measurement that came off well.
        let measured = shortest &* ClientLimits.second / 5 &* 4
        return min(wanted, max(measured, ClientLimits.shortestKeepAlive))
    }
}

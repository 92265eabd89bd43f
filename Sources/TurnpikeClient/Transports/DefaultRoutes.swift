import Glibc
import Traversal

/// The kernel's default routes of IPv4.
enum DefaultRoutes {
    static func gateways() -> [Gateway] {
        guard let file = fopen("/proc/net/route", "r") else { return [] }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: ClientLimits.routeTableBytes)
        let count = bytes.withUnsafeMutableBytes { fread($0.baseAddress, 1, $0.count, file) }
        return gateways(in: String(decoding: bytes[..<count], as: UTF8.self))
    }

    /// Reads the table's text: a line for each route, with the interface, the destination, the gateway, flags, two
    /// counts, the metric and the mask. Addresses are numbers as this machine has them in memory.
    static func gateways(in table: String) -> [Gateway] {
        var found: [(metric: UInt32, gateway: Gateway)] = []
        for line in table.split(separator: "\n").dropFirst() {
            let columns = line.split { $0 == "\t" || $0 == " " }
            guard columns.count >= 8, let destination = UInt32(columns[1], radix: 16), destination == 0,
                let address = UInt32(columns[2], radix: 16), address != 0,
                let flags = UInt32(columns[3], radix: 16), flags & (up | viaGateway) == up | viaGateway,
                let mask = UInt32(columns[7], radix: 16), mask == 0
            else { continue }
            let gateway = Gateway(address: IPAddress(v4: UInt32(bigEndian: address)), interface: String(columns[0]))
            guard !found.contains(where: { $0.gateway == gateway }) else { continue }
            found.append((UInt32(columns[6]) ?? .max, gateway))
        }
        return found.enumerated().sorted { ($0.element.metric, $0.offset) < ($1.element.metric, $1.offset) }
            .map(\.element.gateway)
    }

    /// RTF_UP and RTF_GATEWAY of Linux.
    private static let up: UInt32 = 1
    private static let viaGateway: UInt32 = 2
}

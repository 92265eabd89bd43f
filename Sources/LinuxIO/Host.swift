import CLinux

/// One address of one network interface.
package struct InterfaceAddress: Equatable, Sendable {
    package let name: String
    package let index: UInt32
    package let high: UInt64
    package let low: UInt64
    package let isIPv4: Bool
    package let isLoopback: Bool
    package let isUp: Bool
    /// The directed broadcast address in the same form; both 0 where there is none.
    package let broadcastHigh: UInt64
    package let broadcastLow: UInt64
}

/// What the process asks of the machine at its start.
package enum Host {
    /// The addresses of all interfaces, up or not.
    package static func interfaceAddresses() throws(SystemCallError) -> [InterfaceAddress] {
        var capacity = 64
        while true {
            var list = [turnpike_interface](repeating: turnpike_interface(), count: capacity)
            let found = Int(try checked(turnpike_interfaces(&list, Int32(clamping: capacity)), "getifaddrs"))
            if found <= capacity { return list.prefix(found).map(InterfaceAddress.init) }
            capacity = found * 2
        }
    }

    /// Lets the process open as many descriptors as its hard limit allows.
    ///
    /// - Returns: That limit.
    @discardableResult
    package static func raiseDescriptorLimit() throws(SystemCallError) -> Int {
        let limit = turnpike_raise_descriptor_limit()
        guard limit >= 0 else { throw SystemCallError(number: Int32(clamping: 0 &- limit), call: "setrlimit") }
        return Int(limit)
    }

    /// Fills memory with random bytes of the kernel's, fit for keys.
    package static func fillRandom(_ bytes: UnsafeMutableRawBufferPointer) throws(SystemCallError) {
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
        try checked(turnpike_random(base, bytes.count), "getrandom")
    }
}

extension InterfaceAddress {
    fileprivate init(_ entry: turnpike_interface) {
        let address = entry.address.parts
        let broadcast = entry.broadcast.length == 0 ? nil : entry.broadcast.parts
        self.init(
            name: withUnsafeBytes(of: entry.name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) },
            index: entry.index,
            high: address.high,
            low: address.low,
            isIPv4: address.isIPv4,
            isLoopback: entry.is_loopback,
            isUp: entry.is_up,
            broadcastHigh: broadcast?.high ?? 0,
            broadcastLow: broadcast?.low ?? 0
        )
    }
}

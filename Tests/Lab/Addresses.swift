import Foundation
import STUN

extension IPAddress {
    /// From text. What is no address gives 0.0.0.0, which reaches nothing.
    package init(_ text: String) {
        var four = in_addr()
        var six = in6_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            self.init(v4: UInt32(bigEndian: four.s_addr))
        } else if inet_pton(AF_INET6, text, &six) == 1 {
            self = withUnsafeBytes(of: six) { IPAddress(high: $0.uint64(at: 0), low: $0.uint64(at: 8)) }
        } else {
            self.init(v4: 0)
        }
    }

    package var text: String {
        if isIPv4 { return [24, 16, 8, 0].map { String(v4 >> $0 & 0xFF) }.joined(separator: ".") }
        var six = in6_addr()
        withUnsafeMutableBytes(of: &six) { bytes in
            bytes.store(high, at: 0)
            bytes.store(low, at: 8)
        }
        var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        guard inet_ntop(AF_INET6, &six, &buffer, socklen_t(buffer.count)) != nil else { return "?" }
        return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

extension Endpoint {
    package init(_ address: String, _ port: UInt16) { self.init(address: IPAddress(address), port: port) }

    package init(_ address: IPAddress, _ port: UInt16) { self.init(address: address, port: port) }

    package var text: String { address.isIPv4 ? "\(address.text):\(port)" : "[\(address.text)]:\(port)" }
}

/// Gives out addresses, one after the other.
///
/// Public ones are such as a peer policy takes for public; the blocks for documentation are refused by every relay.
struct AddressPool {
    private var nextV4: UInt32
    private let prefixV6: UInt64
    private var nextV6: UInt64 = 1

    /// - Parameters:
    ///   - v4: the first.
    ///   - v6: the first eight bytes, as a number.
    init(v4: String, v6: UInt64) {
        nextV4 = IPAddress(v4).v4
        prefixV6 = v6
    }

    /// Of 24 bits, as a number of 32.
    var prefixV4: UInt32 { nextV4 & 0xFFFF_FF00 }

    mutating func takeV4() -> IPAddress {
        defer { nextV4 += 1 }
        return IPAddress(v4: nextV4)
    }

    mutating func takeV6() -> IPAddress {
        defer { nextV6 += 1 }
        return IPAddress(high: prefixV6, low: nextV6)
    }
}

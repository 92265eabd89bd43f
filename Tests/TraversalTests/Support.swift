import OpenSSLCrypto
import STUN
import TestSupport
import Traversal

extension Endpoint {
    /// From numbers, dotted or in groups of four hexadecimal digits with at most one `::`.
    init(_ text: String, _ port: UInt16) { self.init(address: IPAddress(text), port: port) }
}

extension IPAddress {
    init(_ text: String) {
        let four = text.split(separator: ".").compactMap { UInt32($0) }
        if four.count == 4 {
            self.init(v4: four.reduce(0) { $0 << 8 | $1 })
            return
        }
        let halves = text.split(separator: "::", omittingEmptySubsequences: false).map {
            $0.split(separator: ":").map { UInt64($0, radix: 16) ?? 0 }
        }
        let (head, tail) = (halves[0], halves.count > 1 ? halves[1] : [])
        let groups = head + Array(repeating: 0, count: max(0, 8 - head.count - tail.count)) + tail
        self.init(
            high: groups[..<4].reduce(0) { $0 << 16 | $1 },
            low: groups[4..<8].reduce(0) { $0 << 16 | $1 }
        )
    }
}

/// A message from a kind, an id and what is to stand in it.
func message(
    _ method: STUN.Method,
    _ messageClass: MessageClass,
    _ id: TransactionID,
    key: AnswerKey? = nil,
    fingerprint: Bool = false,
    _ attributes: (inout MessageBuilder) -> Void = { _ in }
) throws -> [UInt8] {
    let cryptography = try OpenSSLCryptography()
    var bytes = [UInt8](repeating: 0, count: 4_096)
    let length = bytes.withUnsafeMutableBytes { buffer -> Int in
        var builder = MessageBuilder(MessageType(method, messageClass), id, into: buffer)
        attributes(&builder)
        if let key { key.key.withUnsafeBytes { builder.append(key.integrity, key: $0, with: cryptography) } }
        if fingerprint { builder.appendFingerprint() }
        return builder.finish() ?? 0
    }
    return Array(bytes.prefix(length))
}

extension MessageBuilder {
    mutating func append(code: UInt16, reason: String = "") {
        append(.errorCode, [0, 0, UInt8(code / 100), UInt8(code % 100)] + Array(reason.utf8))
    }
}

/// One of the ways in which a packet goes wrong: bits turned, cut, lengthened, a length that lies, or all of it noise.
func mutated(_ packet: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
    var bytes = packet
    for _ in 0..<Int.random(in: 1...3, using: &generator) {
        switch Int.random(in: 0..<6, using: &generator) {
        case 0 where !bytes.isEmpty:
            bytes[Int.random(in: 0..<bytes.count, using: &generator)] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 1: bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &generator)))
        case 2:
            bytes += (0..<Int.random(in: 1...40, using: &generator)).map { _ in .random(in: 0...255, using: &generator)
            }
        case 3 where bytes.count > 24:
            let place = Int.random(in: 5..<(bytes.count / 4), using: &generator) * 4 + 2
            bytes[place] = .random(in: 0...255, using: &generator)
            if place + 1 < bytes.count { bytes[place + 1] = .random(in: 0...255, using: &generator) }
        case 4 where bytes.count >= 4:
            // The header's length made right again, so that what lies inside is looked at.
            bytes = Array(bytes.prefix(bytes.count & ~3))
            let length = max(0, bytes.count - 20)
            bytes[2] = UInt8(truncatingIfNeeded: length >> 8)
            bytes[3] = UInt8(truncatingIfNeeded: length)
        default:
            if !bytes.isEmpty {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
            }
        }
    }
    return bytes
}

let milliseconds: UInt64 = 1_000_000
let seconds: UInt64 = 1_000_000_000

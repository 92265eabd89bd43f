import Foundation
import STUN

extension IPAddress {
    /// From text, by the C library. Text that is no address gives 0.0.0.0, which no test wants.
    init(_ text: String) {
        var four = in_addr()
        var six = in6_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            self.init(v4: UInt32(bigEndian: four.s_addr))
        } else if inet_pton(AF_INET6, text, &six) == 1 {
            let bytes = withUnsafeBytes(of: six, Array.init)
            let halves = [bytes[..<8], bytes[8...]].map { $0.reduce(UInt64(0)) { $0 << 8 | UInt64($1) } }
            self.init(high: halves[0], low: halves[1])
        } else {
            self.init(v4: 0)
        }
    }
}

extension Endpoint {
    init(_ address: String, _ port: UInt16) { self.init(address: IPAddress(address), port: port) }
}

/// A message as plain values.
struct Answer: Equatable {
    struct Attribute: Equatable {
        var type: AttributeType
        var value: [UInt8]
    }

    let bytes: [UInt8]
    let type: MessageType
    let transaction: TransactionID
    /// In order, the integrity attributes and FINGERPRINT among them.
    let attributes: [Attribute]

    init?(_ bytes: [UInt8]) {
        self.bytes = bytes
        let parsed = bytes.withUnsafeBytes { buffer -> (MessageType, TransactionID)? in
            (try? MessageView(buffer)).map { ($0.type, $0.transactionID) }
        }
        guard let parsed else { return nil }
        (type, transaction) = parsed
        var attributes: [Attribute] = []
        var offset = 20
        while offset + 4 <= bytes.count {
            let length = Int(bytes[offset + 2]) << 8 | Int(bytes[offset + 3])
            attributes.append(
                Attribute(
                    type: AttributeType(rawValue: UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1])),
                    value: Array(bytes[(offset + 4)..<(offset + 4 + length)])
                )
            )
            offset += 4 + (length + 3) / 4 * 4
        }
        self.attributes = attributes
    }

    var isSuccess: Bool { type.messageClass == .successResponse }

    var types: [AttributeType] { attributes.map(\.type) }

    func value(_ type: AttributeType) -> [UInt8]? { attributes.first { $0.type == type }?.value }

    /// The code of ERROR-CODE, or nil where there is none.
    var error: UInt16? { value(.errorCode).map { UInt16($0[2]) * 100 + UInt16($0[3]) } }

    var lifetimeSeconds: UInt32? { value(.lifetime).map { $0.reduce(0) { $0 << 8 | UInt32($1) } } }

    func endpoints(_ type: AttributeType) -> [Endpoint] {
        attributes.filter { $0.type == type }.compactMap { attribute in
            attribute.value.withUnsafeBytes { AddressAttribute.decodeXOR($0, transaction) }
        }
    }
}

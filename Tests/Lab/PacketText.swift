import STUN

extension Packet {
    /// One line: from, to, and what it says.
    package var text: String { "\(source.text) → \(destination.text)  \(contents)" }

    private var contents: String {
        switch body {
        case .datagram(let bytes): "UDP \(bytes.count)  \(Packet.summary(bytes))"
        case .segment(let segment): segment.text
        case .problem(let problem): problem.text
        }
    }

    /// What the bytes are, as far as they can be told: a STUN message, ChannelData, DTLS, or text.
    static func summary(_ bytes: [UInt8]) -> String {
        bytes.withUnsafeBytes { buffer in
            if let message = try? MessageView(buffer) { return summary(message) }
            guard let first = buffer.first else { return "empty" }
            if ChannelData.isChannel(firstByte: first, wide: false), let header = ChannelData(buffer) {
                let payload = Array(bytes[4..<(4 + header.length)])
                return "ChannelData 0x\(String(header.channel, radix: 16)) \(header.length): \(summary(payload))"
            }
            // RFC 7983.
            if (20...63).contains(first) { return "DTLS record \(first)" }
            let isText = bytes.prefix(40).allSatisfy { (32..<127).contains($0) }
            return isText ? "\"\(String(decoding: bytes.prefix(40), as: UTF8.self))\"" : "data"
        }
    }

    private static func summary(_ message: MessageView) -> String {
        var parts = [name(message.type.method) + " " + name(message.type.messageClass)]
        var attributes = message.attributes
        while let attribute = attributes.next() {
            switch attribute.type {
            case .xorMappedAddress: parts.append("mapped \(endpoint(attribute, message))")
            case .xorRelayedAddress: parts.append("relayed \(endpoint(attribute, message))")
            case .xorPeerAddress: parts.append("peer \(endpoint(attribute, message))")
            case .errorCode where attribute.value.count >= 4:
                parts.append("error \(Int(attribute.value[2]) * 100 + Int(attribute.value[3]))")
            case .changeRequest where attribute.value.count == 4:
                parts.append("change \(attribute.value.uint32(at: 0) >> 1 & 3)")
            case .lifetime where attribute.value.count == 4:
                parts.append("lifetime \(attribute.value.uint32(at: 0))")
            case .channelNumber where attribute.value.count == 4:
                parts.append("channel 0x\(String(attribute.value.uint16(at: 0), radix: 16))")
            case .data: parts.append("data \(attribute.value.count): \(summary(Array(attribute.value)))")
            // RFC 8445 section 7.1.2.
            case AttributeType(rawValue: 0x0025): parts.append("use-candidate")
            default: break
            }
        }
        return parts.joined(separator: ", ")
    }

    private static func endpoint(_ attribute: Attribute, _ message: MessageView) -> String {
        AddressAttribute.decodeXOR(attribute.value, message.transactionID)?.text ?? "?"
    }

    private static func name(_ method: STUN.Method) -> String {
        switch method {
        case .binding: "Binding"
        case .allocate: "Allocate"
        case .refresh: "Refresh"
        case .send: "Send"
        case .data: "Data"
        case .createPermission: "CreatePermission"
        case .channelBind: "ChannelBind"
        case .connect: "Connect"
        case .connectionBind: "ConnectionBind"
        case .connectionAttempt: "ConnectionAttempt"
        default: "method 0x\(String(method.rawValue, radix: 16))"
        }
    }

    private static func name(_ messageClass: MessageClass) -> String {
        switch messageClass {
        case .request: "request"
        case .indication: "indication"
        case .successResponse: "success"
        case .errorResponse: "error"
        }
    }
}

extension Segment {
    var text: String {
        let names: [(Flags, String)] = [(.syn, "SYN"), (.fin, "FIN"), (.rst, "RST"), (.ack, "ACK")]
        let flags = names.filter { self.flags.contains($0.0) }.map(\.1).joined(separator: ",")
        return payload.isEmpty ? "TCP \(flags)" : "TCP \(flags) \(payload.count)  \(Packet.summary(payload))"
    }
}

extension Problem {
    var text: String {
        let what =
            switch kind {
            case .portUnreachable: "port unreachable"
            case .hopLimitExceeded: "time exceeded"
            case .tooBig(let mtu): "too big, at most \(mtu) bytes"
            }
        return "ICMP \(what), of \(source.text) → \(destination.text)"
    }
}

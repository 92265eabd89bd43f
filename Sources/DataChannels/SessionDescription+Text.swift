extension SessionDescription {
    /// The lines, each with its CR LF, in the order in which browsers write them.
    package var text: String {
        var lines = ["v=0", "o=- \(sessionID) \(version) IN IP4 127.0.0.1", "s=-", "t=0 0"]
        // RFC 9143 section 7.3.1: what is turned down is in no group.
        let bundled = sections.compactMap { section in
            if case .data(let data) = section, !data.mid.isEmpty { data.mid } else { nil }
        }
        if isBundled, !bundled.isEmpty { lines.append("a=group:BUNDLE \(bundled.joined(separator: " "))") }
        if data?.transport.isICELite == true { lines.append("a=ice-lite") }
        if let pacing = data?.transport.pacingMilliseconds { lines.append("a=ice-pacing:\(pacing)") }
        for section in sections {
            switch section {
            case .data(let data): lines += data.lines
            case .other(let other): lines += other.lines
            }
        }
        return lines.map { $0 + "\r\n" }.joined()
    }
}

extension DataSection {
    /// What the `m=` line has behind its port.
    var protocolAndFormats: (String, String) {
        format == .standard ? ("UDP/DTLS/SCTP", "webrtc-datachannel") : ("DTLS/SCTP", "\(sctpPort)")
    }

    fileprivate var lines: [String] {
        let (protocolName, formats) = protocolAndFormats
        // The discard port and no address: the candidates say where (RFC 8840 section 4.1.1).
        var lines = ["m=application 9 \(protocolName) \(formats)", "c=IN IP4 0.0.0.0"]
        lines += transport.candidates.map { "a=\($0)" }
        if transport.hasAllCandidates { lines.append("a=end-of-candidates") }
        lines += ["a=ice-ufrag:\(transport.iceUfrag)", "a=ice-pwd:\(transport.icePassword)"]
        if !transport.iceOptions.isEmpty {
            lines.append("a=ice-options:\(transport.iceOptions.joined(separator: " "))")
        }
        lines += transport.fingerprints.map { "a=fingerprint:\($0.text)" }
        lines.append("a=setup:\(transport.setup.rawValue)")
        if !mid.isEmpty { lines.append("a=mid:\(mid)") }
        switch format {
        case .standard: lines.append("a=sctp-port:\(sctpPort)")
        case .draft: lines.append("a=sctpmap:\(sctpPort) webrtc-datachannel 1024")
        }
        lines.append("a=max-message-size:\(maxMessageBytes)")
        return lines
    }
}

extension OtherSection {
    /// Port 0 turns it down (RFC 3264 section 6).
    fileprivate var lines: [String] {
        var lines = ["m=\(media) 0 \(protocolName) \(formats)", "c=IN IP4 0.0.0.0"]
        if !mid.isEmpty { lines.append("a=mid:\(mid)") }
        // What carries no RTP has no direction.
        return media == "application" ? lines : lines + ["a=inactive"]
    }
}

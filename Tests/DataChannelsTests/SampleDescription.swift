import DataChannels
import Testing

/// Descriptions of the form in which others write them, with what is in them.
struct SampleDescription: Sendable, CustomTestStringConvertible {
    let name: String
    let text: String
    var mid = "0"
    let ufrag: String
    var setup = TransportDescription.Setup.either
    var candidates = 0
    var hasAllCandidates = false
    let maxMessageBytes: Int

    var testDescription: String { name }

    static let all = [chromium, chromiumWithVideo, firefox, aiortc, pion, libdatachannel, oldFirefox]

    static let chromium = SampleDescription(
        name: "Chromium",
        text: crlf(
            "v=0",
            "o=- 5212743873493247412 2 IN IP4 127.0.0.1",
            "s=-",
            "t=0 0",
            "a=group:BUNDLE 0",
            "a=extmap-allow-mixed",
            "a=msid-semantic: WMS",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0",
            "a=ice-ufrag:Tz9s",
            "a=ice-pwd:bnJ3tzq7KYqO0y3mvYtkoWgj",
            "a=ice-options:trickle",
            "a=fingerprint:sha-256 \(fingerprint)",
            "a=setup:actpass",
            "a=mid:0",
            "a=sctp-port:5000",
            "a=max-message-size:262144"
        ),
        ufrag: "Tz9s",
        maxMessageBytes: 262_144
    )

    static let chromiumWithVideo = SampleDescription(
        name: "Chromium, with audio and video",
        text: crlf(
            "v=0",
            "o=- 1 2 IN IP4 127.0.0.1",
            "s=-",
            "t=0 0",
            "a=group:BUNDLE audio data video",
            "m=audio 9 UDP/TLS/RTP/SAVPF 111 0",
            "c=IN IP4 0.0.0.0",
            "a=rtcp:9 IN IP4 0.0.0.0",
            "a=ice-ufrag:other",
            "a=ice-pwd:otherotherotherotherother",
            "a=fingerprint:sha-256 \(fingerprint)",
            "a=setup:actpass",
            "a=mid:audio",
            "a=sendrecv",
            "a=rtpmap:111 opus/48000/2",
            "a=fmtp:111 minptime=10;useinbandfec=1",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0",
            "a=ice-ufrag:data",
            "a=ice-pwd:datadatadatadatadatadata",
            "a=ice-options:trickle",
            "a=fingerprint:sha-256 \(fingerprint)",
            "a=setup:actpass",
            "a=mid:data",
            "a=sctp-port:5000",
            "a=max-message-size:262144",
            "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
            "c=IN IP4 0.0.0.0",
            "a=ice-ufrag:other",
            "a=ice-pwd:otherotherotherotherother",
            "a=fingerprint:sha-256 \(fingerprint)",
            "a=setup:actpass",
            "a=mid:video",
            "a=recvonly",
            "b=AS:500"
        ),
        mid: "data",
        ufrag: "data",
        maxMessageBytes: 262_144
    )

    /// The fingerprint and the options of ICE stand above the section.
    static let firefox = SampleDescription(
        name: "Firefox",
        text: crlf(
            "v=0",
            "o=mozilla...THIS_IS_SDPARTA-99.0 4018293847562910283 0 IN IP4 0.0.0.0",
            "s=-",
            "t=0 0",
            "a=sendrecv",
            "a=fingerprint:sha-256 \(fingerprint)",
            "a=group:BUNDLE 0",
            "a=ice-options:trickle",
            "a=msid-semantic:WMS *",
            "m=application 54023 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 192.0.2.7",
            "a=candidate:0 1 UDP 2122252543 192.0.2.7 54023 typ host",
            "a=candidate:1 1 TCP 2105524479 192.0.2.7 9 typ host tcptype active",
            "a=sendrecv",
            "a=end-of-candidates",
            "a=ice-pwd:5a0ab8ce1b4d4a6c3e2f10987654abcd",
            "a=ice-ufrag:1f2e3d4c",
            "a=mid:0",
            "a=setup:actpass",
            "a=sctp-port:5000",
            "a=max-message-size:1073741823"
        ),
        ufrag: "1f2e3d4c",
        candidates: 2,
        hasAllCandidates: true,
        maxMessageBytes: 1_073_741_823
    )

    /// An answer with all its candidates, which gives several fingerprints.
    static let aiortc = SampleDescription(
        name: "aiortc",
        text: crlf(
            "v=0",
            "o=- 3958371822 3958371822 IN IP4 0.0.0.0",
            "s=-",
            "t=0 0",
            "a=group:BUNDLE 0",
            "a=msid-semantic:WMS *",
            "m=application 39011 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 192.0.2.5",
            "a=mid:0",
            "a=sctp-port:5000",
            "a=max-message-size:65536",
            "a=candidate:5ac8ff9f 1 udp 2130706431 192.0.2.5 39011 typ host",
            "a=candidate:7aa2 1 udp 1694498815 203.0.113.9 39011 typ srflx raddr 192.0.2.5 rport 39011",
            "a=end-of-candidates",
            "a=ice-ufrag:Yq7v",
            "a=ice-pwd:kE4pWd83jQyX0ZbN6mRtGh",
            "a=fingerprint:sha-256 \(fingerprint)",
            "a=fingerprint:sha-384 \(Array(repeating: "3C", count: 48).joined(separator: ":"))",
            "a=fingerprint:sha-512 \(Array(repeating: "5D", count: 64).joined(separator: ":"))",
            "a=setup:active"
        ),
        ufrag: "Yq7v",
        setup: .active,
        candidates: 2,
        hasAllCandidates: true,
        maxMessageBytes: 65_536
    )

    static let pion = SampleDescription(
        name: "pion",
        text: crlf(
            "v=0",
            "o=- 8246801299158376213 1795300120 IN IP4 0.0.0.0",
            "s=-",
            "t=0 0",
            "a=msid-semantic:WMS*",
            "a=fingerprint:sha-256 \(fingerprint)",
            "a=extmap-allow-mixed",
            "a=group:BUNDLE 0",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0",
            "a=setup:actpass",
            "a=mid:0",
            "a=sendrecv",
            "a=sctp-port:5000",
            "a=max-message-size:1073741823",
            "a=ice-ufrag:jXqpwUXRVzjMEabC",
            "a=ice-pwd:bhwQYvgZlDnKuTmEoSxLrfGiPcAHNjVk",
            "a=candidate:233762139 1 udp 2130706431 192.0.2.8 37400 typ host ufrag jXqpwUXRVzjMEabC",
            "a=end-of-candidates"
        ),
        ufrag: "jXqpwUXRVzjMEabC",
        candidates: 1,
        hasAllCandidates: true,
        maxMessageBytes: 1_073_741_823
    )

    static let libdatachannel = SampleDescription(
        name: "libdatachannel",
        text: crlf(
            "v=0",
            "o=rtc 3767197920 0 IN IP4 127.0.0.1",
            "s=-",
            "t=0 0",
            "a=group:BUNDLE data",
            "a=group:LS data",
            "a=msid-semantic:WMS *",
            "a=ice-options:ice2,trickle",
            "a=fingerprint:sha-256 \(fingerprint)",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0",
            "a=mid:data",
            "a=sendrecv",
            "a=sctp-port:5000",
            "a=max-message-size:262144",
            "a=setup:passive",
            "a=ice-ufrag:Gz3n",
            "a=ice-pwd:8R9ZQMhfU5Ynr9wnDIO3xL"
        ),
        mid: "data",
        ufrag: "Gz3n",
        setup: .passive,
        maxMessageBytes: 262_144
    )

    /// By a draft before RFC 8841.
    static let oldFirefox = SampleDescription(
        name: "old Firefox",
        text: crlf(
            "v=0",
            "o=mozilla 1 0 IN IP4 0.0.0.0",
            "s=-",
            "t=0 0",
            "a=fingerprint:sha-256 \(fingerprint)",
            "m=application 9 DTLS/SCTP 5000",
            "c=IN IP4 0.0.0.0",
            "a=ice-pwd:5a0ab8ce1b4d4a6c3e2f10987654abcd",
            "a=ice-ufrag:1f2e3d4c",
            "a=mid:sdparta_0",
            "a=sctpmap:5000 webrtc-datachannel 256",
            "a=setup:actpass"
        ),
        mid: "sdparta_0",
        ufrag: "1f2e3d4c",
        maxMessageBytes: 65_536
    )

    private static let fingerprint = (0..<32).map { ["A1", "0F", "7C", "D4"][$0 % 4] }.joined(separator: ":")

    private static func crlf(_ lines: String...) -> String { lines.map { $0 + "\r\n" }.joined() }
}

/// An offer or an answer of a peer connection, as far as it is about data channels (RFC 8866, RFC 8841, RFC 8829).
package struct SessionDescription: Sendable, Equatable {
    /// In an answer each section stands where it stood in the offer.
    package enum Section: Sendable, Equatable {
        case data(DataSection)
        /// One that is not for data, or that its sender turned down.
        case other(OtherSection)
    }

    /// Names the session in its `o=` line, and the version of its description.
    package var sessionID: UInt64
    package var version: UInt64
    package var sections: [Section]
    /// Whether the section for data is in a BUNDLE group. An answer has none where the offer had none (RFC 9143 section
    /// 7.3).
    package var isBundled: Bool

    package init(sessionID: UInt64, version: UInt64 = 1, sections: [Section], isBundled: Bool = true) {
        self.sessionID = sessionID
        self.version = version
        self.sections = sections
        self.isBundled = isBundled
    }

    /// An offer of data channels and nothing else.
    package init(sessionID: UInt64, offering transport: TransportDescription, maxMessageBytes: Int) {
        let data = DataSection(mid: "0", transport: transport, maxMessageBytes: maxMessageBytes)
        self.init(sessionID: sessionID, sections: [.data(data)])
    }

    /// The first section that is for data and not turned down.
    package var data: DataSection? {
        for case .data(let section) in sections { return section }
        return nil
    }

    /// The answer to this offer: its first section for data, and none of the others (RFC 3264 section 6).
    ///
    /// - Parameter transport: its `setup` is this side's; RFC 8842 section 5.3 wants `active` where the offer says
    ///   `actpass`.
    /// - Returns: nil where the offer has no section for data.
    package func answer(sessionID: UInt64, transport: TransportDescription, maxMessageBytes: Int) -> Self? {
        guard let offered = data else { return nil }
        var isAnswered = false
        let answered = sections.map { section -> Section in
            switch section {
            case .other(let other): return .other(other)
            case .data(let data):
                if isAnswered { return .other(OtherSection(rejecting: data)) }
                isAnswered = true
                return .data(
                    DataSection(
                        mid: offered.mid,
                        transport: transport,
                        sctpPort: DataSection.usualPort,
                        maxMessageBytes: maxMessageBytes,
                        format: offered.format
                    )
                )
            }
        }
        return Self(sessionID: sessionID, sections: answered, isBundled: isBundled)
    }
}

/// A section that describes an SCTP association over DTLS (RFC 8841 section 4).
package struct DataSection: Sendable, Equatable {
    /// How the section says that it is for data channels.
    package enum Format: Sendable, Equatable {
        /// RFC 8841's: `UDP/DTLS/SCTP webrtc-datachannel`, or `TCP/…`.
        case standard
        /// The drafts' before it, `DTLS/SCTP 5000` with `a=sctpmap`, as old browsers have it.
        case draft
    }

    /// Empty where the section has none.
    package var mid: String
    package var transport: TransportDescription
    package var sctpPort: UInt16
    /// The longest message that the sender of the description takes.
    package var maxMessageBytes: Int
    package var format: Format

    package init(
        mid: String,
        transport: TransportDescription,
        sctpPort: UInt16 = Self.usualPort,
        maxMessageBytes: Int,
        format: Format = .standard
    ) {
        self.mid = mid
        self.transport = transport
        self.sctpPort = sctpPort
        self.maxMessageBytes = maxMessageBytes
        self.format = format
    }

    package static let usualPort: UInt16 = 5_000
    /// RFC 8841 section 6.1, for who says nothing.
    static let silentMaxMessageBytes = 65_536
}

/// How the peer is reached, and how it is known: ICE and DTLS.
package struct TransportDescription: Sendable, Equatable {
    /// Who begins the DTLS handshake (RFC 4145 section 4).
    package enum Setup: String, Sendable, CaseIterable {
        case active, passive
        case either = "actpass"
        case held = "holdconn"
    }

    package var iceUfrag: String
    package var icePassword: String
    /// What its sender can do, such as `trickle` (RFC 8840), `ice2` (RFC 8445) and `renomination`
    /// (draft-thatcher-ice-renomination); the ICE agent of Traversal can do all three.
    package var iceOptions: [String]
    package var isICELite = false
    /// The least time between two checks that its sender asks for (RFC 8839 section 5.5); nil where it says nothing,
    /// which stands for 50.
    package var pacingMilliseconds: UInt32?
    package var setup: Setup
    /// Of the certificate, by one hash function or several.
    package var fingerprints: [CertificateFingerprint]
    /// Each as in `candidate:…`, without `a=`; they are for the ICE agent to read.
    package var candidates: [String] = []
    /// No more candidates follow.
    package var hasAllCandidates = false

    package init(
        iceUfrag: String,
        icePassword: String,
        iceOptions: [String] = ["trickle", "ice2", "renomination"],
        setup: Setup,
        fingerprints: [CertificateFingerprint]
    ) {
        self.iceUfrag = iceUfrag
        self.icePassword = icePassword
        self.iceOptions = iceOptions
        self.setup = setup
        self.fingerprints = fingerprints
    }

    /// Of several nominations the sender follows the one with the highest number, so a path may be left for a better
    /// one without a restart of ICE.
    package var supportsRenomination: Bool { iceOptions.contains("renomination") }

    /// Its sender takes candidates that come after the description (RFC 8840 section 4.1.3).
    package var supportsTrickle: Bool { iceOptions.contains("trickle") }
}

/// A hash over a certificate (RFC 8122 section 5).
package struct CertificateFingerprint: Sendable, Hashable {
    /// In lower case, such as `sha-256`.
    package let hashFunction: String
    package let digest: [UInt8]

    package init(hashFunction: String, digest: [UInt8]) {
        self.hashFunction = hashFunction
        self.digest = digest
    }

    /// As browsers write it: `sha-256 AB:CD:…`.
    package var text: String {
        let digits = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for (index, byte) in digest.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ":")) }
            bytes += [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        }
        return "\(hashFunction) \(String(decoding: bytes, as: UTF8.self))"
    }

    /// - Returns: nil where it is none, or its digest has not the length that its function gives.
    package init?(_ text: Substring) {
        let words = text.split(separator: " ")
        guard words.count == 2 else { return nil }
        let name = words[0].lowercased()
        var digest: [UInt8] = []
        for pair in words[1].utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false) {
            guard pair.count == 2, let high = pair.first?.hexadecimalDigit, let low = pair.last?.hexadecimalDigit else {
                return nil
            }
            digest.append(high << 4 | low)
        }
        guard digest.count == Self.lengths[name] ?? digest.count, digest.count <= Self.greatestLength else {
            return nil
        }
        self.init(hashFunction: name, digest: digest)
    }

    private static let lengths = ["sha-1": 20, "sha-224": 28, "sha-256": 32, "sha-384": 48, "sha-512": 64]
    private static let greatestLength = 128
}

/// A section that nothing comes of, as an answer has to repeat it.
package struct OtherSection: Sendable, Equatable {
    /// `audio`, `video`, …
    package let media: String
    package let protocolName: String
    /// As in the offer.
    package let formats: String
    package let mid: String

    init(media: String, protocolName: String, formats: String, mid: String) {
        self.media = media
        self.protocolName = protocolName
        self.formats = formats
        self.mid = mid
    }

    init(rejecting data: DataSection) {
        let (protocolName, formats) = data.protocolAndFormats
        self.init(media: "application", protocolName: protocolName, formats: formats, mid: data.mid)
    }
}

extension UInt8 {
    fileprivate var hexadecimalDigit: UInt8? {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): self - UInt8(ascii: "0")
        case UInt8(ascii: "A")...UInt8(ascii: "F"): self - UInt8(ascii: "A") + 10
        case UInt8(ascii: "a")...UInt8(ascii: "f"): self - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}

/// The peer ranges that no setting opens, because what answers there is this host, its link, its cloud's metadata
/// service, no single host, or an address hidden in another one (RFC 8656 section 21.4 for Teredo and 6to4).
enum ClosedRanges {
    struct Entry: Sendable {
        let range: AddressRange
        let name: String
    }

    /// Sorted by `lower`; where one range lies inside another, the wider comes first.
    static let entries: [Entry] = table.compactMap { text, name in
        (try? AddressRange(text: text)).map { Entry(range: $0, name: name) }
    }
    .sorted { ($0.range.lower.number, $1.range.upper.number) < ($1.range.lower.number, $0.range.upper.number) }

    static let table = [
        ("0.0.0.0/8", "this network"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16", "the Azure host"),
        ("169.254.0.0/16", "link-local and cloud metadata"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved and broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::/96", "v4-compatible"),
        ("2001::/32", "Teredo"),
        ("2002::/16", "6to4"),
        ("fd00:ec2::254", "AWS metadata"),
        ("fd20:ce::254", "Google Cloud metadata"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    ]

    /// Why opening `range` would open nothing: the closed range that holds its first address, when closed ranges cover
    /// all of it, else nil.
    static func reasonClosed(_ range: AddressRange) -> Entry? {
        var next = range.lower.number
        for entry in entries where entry.range.lower.number <= next && next <= entry.range.upper.number {
            guard entry.range.upper.number < range.upper.number else {
                return entries.last { $0.range.contains(range.lower) && $0.range.contains(range.upper) }
                    ?? entries.first { $0.range.contains(range.lower) }
            }
            next = entry.range.upper.number + 1
        }
        return nil
    }
}

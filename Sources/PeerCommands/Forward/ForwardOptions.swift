import TurnpikeClient

/// Where `forward` listens, and where it leads.
struct ForwardPlace: Equatable {
    /// In text, an IPv6 address without its brackets.
    let address: String
    let port: UInt16

    /// - Parameter text: `ADDRESS:PORT` with an IPv6 address in brackets, or `PORT` for 127.0.0.1.
    init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard let last = parts.last, let port = ForwardTarget.port(last) else { return nil }
        self.port = port
        guard parts.count > 1 else {
            address = "127.0.0.1"
            return
        }
        guard let host = ForwardTarget.host(text.dropLast(last.utf8.count + 1)) else { return nil }
        let isAddress = AddressText.address(host) != nil
        guard isAddress || host == "localhost" else { return nil }
        address = isAddress ? host : "127.0.0.1"
    }

    var isLoopback: Bool { address == "::1" || address.hasPrefix("127.") }
}

/// A peer, and the target behind it.
struct ForwardRoute: Equatable {
    let peer: String
    let target: ForwardTarget

    /// - Parameter text: `PEER:PORT` for a loopback port of the peer's machine, or `PEER:HOST:PORT`. An id may have
    ///   slashes; one with a colon needs the second form.
    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"),
            let port = ForwardTarget.port(text[text.index(after: colon)...]), port > 0
        else { return nil }
        let front = text[..<colon]
        guard let hostColon = Self.colonBeforeHost(front) else {
            // An address alone names no peer.
            guard !front.isEmpty, ForwardTarget.host(front)?.contains(":") != true else { return nil }
            peer = String(front)
            target = ForwardTarget(loopbackPort: port)
            return
        }
        guard hostColon > front.startIndex, let target = ForwardTarget(text[text.index(after: hostColon)...]) else {
            return nil
        }
        peer = String(front[..<hostColon])
        self.target = target
    }

    /// Those of an IPv6 address are in brackets.
    private static func colonBeforeHost(_ front: Substring) -> Substring.Index? {
        guard front.hasSuffix("]"), let bracket = front.lastIndex(of: "[") else { return front.lastIndex(of: ":") }
        guard bracket > front.startIndex else { return nil }
        let before = front.index(before: bracket)
        return front[before] == ":" ? before : nil
    }
}

extension ForwardPolicy {
    /// - Parameter words: what `--forward` was given, each a list with commas. Naming anything closes all else.
    /// - Throws: status 64 for what makes no sense.
    init(words: [String]) throws {
        guard !words.isEmpty else {
            self.init()
            return
        }
        self = .none
        let items = words.flatMap { $0.split(separator: ",", omittingEmptySubsequences: false) }.map(String.init)
        var isNone = false
        for item in items {
            if item == "none" {
                isNone = true
            } else if item == "own-user" {
                isOwnUserOnly = true
            } else if item == "loopback" {
                allowsLoopback = true
            } else if let port = ForwardTarget.port(item), port > 0 {
                ports.insert(port)
            } else if let target = ForwardTarget(item) {
                targets.insert(target)
            } else {
                throw CommandError.usage(
                    "--forward \(item.escapedForTerminal): write none, own-user, loopback, a port such as 80, or a "
                        + "target such as 10.0.0.5:80, with commas between several"
                )
            }
        }
        if isNone, items.count > 1 {
            throw CommandError.usage("--forward none allows nothing else beside it; leave out one or the other")
        }
        if isOwnUserOnly, allowsNothing { allowsLoopback = true }
    }

    /// For who starts `listen`: what may be reached, and by whom.
    var warning: String {
        if allowsNothing { return "forwards nothing (--forward none)" }
        var places: [String] = []
        if allowsLoopback {
            places.append("EVERY port of 127.0.0.1 and [::1] here")
        } else if !ports.isEmpty {
            let list = ports.sorted().map(String.init).joined(separator: ", ")
            places.append("port\(ports.count == 1 ? "" : "s") \(list) of 127.0.0.1 and [::1] here")
        }
        places += targets.map(\.description).sorted()
        let who = isOwnUserOnly ? "peers of its own user" : "ANY peer of the same server"
        let mend = self == ForwardPolicy() ? "; --forward none, own-user or 80,443 restricts it" : ""
        return "forwards \(who) to \(places.joined(separator: ", and to "))\(mend)"
    }
}

/// Finds the key somebody meant.
enum Spelling {
    /// The candidate nearest to `text`, or nil when none is near. Names compare without regard to case and separators,
    /// and the last level alone counts too, so `minPort` at the top finds `relay.min_port`.
    static func nearest(to text: String, among candidates: [String]) -> String? {
        // Longer than any key can be, and the distance below takes time in proportion to both lengths.
        guard text.utf8.count <= 80 else { return nil }
        let whole = letters(text)
        let last = letters(lastLevel(text))
        var best: (name: String, score: Int)?
        for candidate in candidates {
            let wholeDistance = distance(whole, letters(candidate))
            var score = wholeDistance <= max(1, whole.count / 4) ? 2 * wholeDistance : Int.max
            let lastDistance = distance(last, letters(lastLevel(candidate)))
            if lastDistance <= max(1, last.count / 4), last.count > lastDistance + 1 {
                // At another level: a whole match at the same distance is the better guess.
                score = min(score, 2 * lastDistance + 1)
            }
            if score < best?.score ?? Int.max {
                best = (candidate, score)
            }
        }
        return best?.name
    }

    /// Edit distance in which swapping two neighbours is one step, as fingers do it.
    static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
        guard !left.isEmpty, !right.isEmpty else { return max(left.count, right.count) }
        var beforeLast: [Int] = []
        var last = Array(0...right.count)
        for row in 1...left.count {
            var current = [row]
            for column in 1...right.count {
                let isSame = left[row - 1] == right[column - 1]
                var steps = min(last[column] + 1, current[column - 1] + 1, last[column - 1] + (isSame ? 0 : 1))
                if row > 1, column > 1, left[row - 1] == right[column - 2], left[row - 2] == right[column - 1] {
                    steps = min(steps, beforeLast[column - 2] + 1)
                }
                current.append(steps)
            }
            (beforeLast, last) = (last, current)
        }
        return last[right.count]
    }

    private static func letters(_ text: some StringProtocol) -> [UInt8] {
        text.lowercased().utf8.filter { $0 != UInt8(ascii: "_") && $0 != UInt8(ascii: "-") && $0 != UInt8(ascii: " ") }
    }

    private static func lastLevel(_ text: String) -> Substring {
        text.split(separator: ".").last ?? text[...]
    }
}

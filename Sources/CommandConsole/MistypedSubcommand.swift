import ArgumentParser

/// A word where a subcommand should stand, and what was meant by it.
struct MistypedSubcommand {
    let word: String
    /// With the words before it; nil where nothing is like it.
    let meant: String?
    /// The command whose subcommands there are, as it is typed.
    let command: String

    /// - Returns: nil where the words in front name a subcommand.
    init?(_ arguments: [String], of root: any ParsableCommand.Type, named program: String) {
        var current: any ParsableCommand.Type = root
        var path = [program]
        for argument in arguments {
            let subcommands = current.configuration.subcommands
            guard !subcommands.isEmpty, argument != "help", !argument.hasPrefix("-") else { return nil }
            if let next = subcommands.first(where: { Self.names($0).contains(argument) }) {
                current = next
                path.append(argument)
                continue
            }
            word = argument
            command = path.joined(separator: " ")
            let names = subcommands.flatMap(Self.names)
            let nearest = names.min { Self.distance($0, argument) < Self.distance($1, argument) }
            // Two letters of a short word make it another one.
            let allowed = max(1, min(2, argument.count / 2))
            meant = nearest.flatMap { Self.distance($0, argument) <= allowed ? $0 : nil }
                .map { "\(path.joined(separator: " ")) \($0)" }
            return
        }
        return nil
    }

    private static func names(_ command: any ParsableCommand.Type) -> [String] {
        [command.configuration.commandName].compactMap(\.self) + command.configuration.aliases
    }

    /// Letters to insert, leave out, replace, or swap with the next one.
    static func distance(_ one: String, _ other: String) -> Int {
        let (left, right) = (Array(one.prefix(32)), Array(other.prefix(32)))
        var rows = [Array(0...right.count)]
        for row in left.indices {
            var next = [row + 1]
            for column in right.indices {
                var cost = min(
                    rows[row][column + 1] + 1,
                    next[column] + 1,
                    rows[row][column] + (left[row] == right[column] ? 0 : 1)
                )
                if row > 0, column > 0, left[row] == right[column - 1], left[row - 1] == right[column] {
                    cost = min(cost, rows[row - 1][column - 1] + 1)
                }
                next.append(cost)
            }
            rows.append(next)
        }
        return rows[left.count][right.count]
    }
}

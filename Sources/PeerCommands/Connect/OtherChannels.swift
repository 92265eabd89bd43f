import TurnpikeClient

/// The channels that a peer opens beside the connection's own. A tab may have one for each kind of thing.
enum OtherChannels {
    /// Writes what comes on them as it is, and sends back what comes on those of a ping. Returns with the connection.
    static func write(_ connection: Connection, to console: Console) async {
        await withDiscardingTaskGroup { group in
            for await channel in connection.channels {
                let isPing = channel.subprotocol == PingCommand.subprotocol
                group.addTask {
                    for await message in channel.messages {
                        // One that fails is over; what is left to read must not hold up the others.
                        if isPing { try? await channel.send(message) } else { try? console.write(bytes: message.bytes) }
                    }
                }
            }
        }
    }
}

/// What users have relayed, told in differences, so that a packet counts in its allocation alone.
extension Engine {
    /// Tells the ledger what every fourth allocation has carried since it was told of it, another fourth with each call
    /// (`Limits.usageReportParts`). Asks for no memory while the users stay the same.
    package mutating func reportUsage() {
        let first = usagePart
        usagePart = (usagePart &+ 1) % Limits.usageReportParts
        usage.add { add in
            var index = first
            while index < UInt32(truncatingIfNeeded: allocations.everUsed) {
                if allocations[index].pointee.isLive, let new = unreported(index) {
                    add(users.name(allocations[index].pointee.user), new)
                }
                index &+= Limits.usageReportParts
            }
        }
    }

    /// Tells the ledger what an allocation that ends has carried.
    func keepUsage(of index: UInt32) {
        guard let new = unreported(index) else { return }
        usage.add { $0(users.name(allocations[index].pointee.user), new) }
    }

    /// What an allocation has carried since it was asked last; nil for nothing.
    private func unreported(_ index: UInt32) -> Traffic? {
        let slot = allocations[index]
        guard slot.pointee.traffic != slot.pointee.reported else { return nil }
        let new = slot.pointee.traffic.since(slot.pointee.reported)
        slot.pointee.reported = slot.pointee.traffic
        return new
    }
}

/// What a user has relayed since the last report.
package struct UserUsage: Sendable {
    /// The name without the expiry of a time-limited credential.
    package var user: String
    package var traffic: Traffic

    package init(user: String, traffic: Traffic) {
        self.user = user
        self.traffic = traffic
    }
}

extension Traffic {
    package mutating func add(_ other: Traffic) {
        packetsToPeers &+= other.packetsToPeers
        bytesToPeers &+= other.bytesToPeers
        packetsToClient &+= other.packetsToClient
        bytesToClient &+= other.bytesToClient
        packetsOverBandwidth &+= other.packetsOverBandwidth
    }

    func since(_ earlier: Traffic) -> Traffic {
        var new = Traffic()
        new.packetsToPeers = packetsToPeers &- earlier.packetsToPeers
        new.bytesToPeers = bytesToPeers &- earlier.bytesToPeers
        new.packetsToClient = packetsToClient &- earlier.packetsToClient
        new.bytesToClient = bytesToClient &- earlier.bytesToClient
        new.packetsOverBandwidth = packetsOverBandwidth &- earlier.packetsOverBandwidth
        return new
    }
}

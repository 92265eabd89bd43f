/// What users have relayed, told in differences, so that a packet counts in its allocation alone.
extension Engine {
    /// What each user has relayed and nobody has been told: of the allocations that have ended, and of every fourth one that
    /// lives, another fourth with each call (`Limits.usageReportParts`). Users without traffic are left out.
    package mutating func takeUsage() -> [UserUsage] {
        var byNumber: [UInt32: Traffic] = [:]
        var index = usagePart
        while index < UInt32(truncatingIfNeeded: allocations.everUsed) {
            let slot = allocations[index]
            if slot.pointee.isLive, let new = unreported(index) {
                byNumber[slot.pointee.user, default: Traffic()].add(new)
            }
            index &+= Limits.usageReportParts
        }
        usagePart = (usagePart &+ 1) % Limits.usageReportParts
        if byNumber.isEmpty, usageOfEnded.isEmpty { return [] }
        var byName = usageOfEnded
        usageOfEnded = [:]
        for (number, traffic) in byNumber { byName[users.name(number), default: Traffic()].add(traffic) }
        return byName.map { UserUsage(user: $0.key, traffic: $0.value) }
    }

    /// Keeps what an allocation that ends has carried for the next report.
    mutating func keepUsage(of index: UInt32) {
        guard let new = unreported(index) else { return }
        usageOfEnded[users.name(allocations[index].pointee.user), default: Traffic()].add(new)
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

    fileprivate func since(_ earlier: Traffic) -> Traffic {
        var new = Traffic()
        new.packetsToPeers = packetsToPeers &- earlier.packetsToPeers
        new.bytesToPeers = bytesToPeers &- earlier.bytesToPeers
        new.packetsToClient = packetsToClient &- earlier.packetsToClient
        new.bytesToClient = bytesToClient &- earlier.bytesToClient
        new.packetsOverBandwidth = packetsOverBandwidth &- earlier.packetsOverBandwidth
        return new
    }
}

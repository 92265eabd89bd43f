import CUsrSCTP

/// What usrsctp says of an association's path.
package struct AssociationStatistics: Sendable {
    package let roundTripMilliseconds: Int
    package let congestionWindowBytes: Int
    package let peerWindowBytes: Int
    package let unacknowledgedChunks: Int

    init(_ status: sctp_status) {
        roundTripMilliseconds = Int(status.sstat_primary.spinfo_srtt)
        congestionWindowBytes = Int(status.sstat_primary.spinfo_cwnd)
        peerWindowBytes = Int(status.sstat_rwnd)
        unacknowledgedChunks = Int(status.sstat_unackdata)
    }
}

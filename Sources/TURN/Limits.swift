/// Every number that bounds the relay, with its reason. The first block is the specification's; the second is ours.
package enum Limits {
    // RFC 8656 sections 3.2, 9 and 12.
    package static let defaultLifetimeSeconds: UInt32 = 600
    /// RFC 8656 section 7.2 leaves the maximum to the server and suggests an hour.
    package static let maximumLifetimeSeconds: UInt32 = 3_600
    package static let permissionLifetimeSeconds: UInt64 = 300
    package static let channelLifetimeSeconds: UInt64 = 600
    package static let channels: ClosedRange<UInt16> = 0x4000...0x4FFF
    /// What RFC 5766 clients may pick besides.
    package static let wideChannels: ClosedRange<UInt16> = 0x4000...0x7FFF
    /// RFC 8656 section 7.2: a reserved port is held for at least 30 seconds.
    package static let reservationLifetimeSeconds: UInt64 = 30
    /// RFC 8489 section 14.3: fewer than 509 bytes.
    package static let usernameBytesMaximum = 508
    /// RFC 8489 sections 14.9 and 14.10: fewer than 764 bytes, which is 128 characters.
    package static let realmBytesMaximum = 763
    package static let nonceBytesMaximum = 763
    /// RFC 8489 section 14.14, the same.
    package static let softwareBytesMaximum = 763

    /// RFC 6062 section 5.2: at least 30 seconds for a peer to answer.
    package static let connectSeconds: UInt64 = 30
    /// RFC 6062 sections 5.2 and 5.3: so long a peer connection waits for its ConnectionBind.
    package static let claimSeconds: UInt64 = 30

    /// Allocations on one worker: a relay address has at most 64,512 ports above the well-known ones.
    package static let allocationsPerWorker = 65_536
    /// Four permissions for each allocation at full load, and 128 for each of 2,048 busy ones.
    package static let permissionsPerWorker = 262_144
    package static let channelsPerWorker = 262_144
    /// New peer addresses an allocation may name in a second once its burst is spent: a browser names a few dozen at
    /// most, a scanner thousands (case PC-08).
    package static let newPermissionsPerSecond: UInt64 = 5
    /// Peer connections on one worker, in all phases: each takes two descriptors once it carries data, and a process
    /// has some ten thousands.
    package static let peerConnectionsPerWorker = 16_384
    /// Of one allocation: more than a browser opens to one server by an order of magnitude.
    package static let peerConnectionsPerAllocation: UInt16 = 64
    /// Of these, those under way or waiting for their client, each of which holds a descriptor for up to 30 seconds: a
    /// peer with a permission, or a client that never binds, gets no further.
    package static let unboundPeerConnectionsPerAllocation: UInt16 = 32
    /// Of one user's allocations on all workers: all that ten allocations may have and half as many again, while no
    /// user can use up the descriptors.
    package static let peerConnectionsPerUser = 1_024
    /// A try fails for a number in use, or one of two at the ends; after so many the random source is broken.
    static let connectionIDTries = 8
    /// The highest limit of bandwidth there is. No machine relays as much; below it, no arithmetic of a bucket
    /// overflows.
    package static let bitsPerSecondMaximum: UInt64 = 400_000_000_000
    /// What a bucket holds at least: more than the longest datagram, which could otherwise never pass.
    package static let burstBytesMinimum: UInt64 = 65_536
    /// One report of usage looks at one in so many allocations, so that a worker with all it can have is held up for
    /// about a millisecond; each is looked at once in as many reports.
    package static let usageReportParts: UInt32 = 4
    /// ICMP errors that a client is told of in one second: enough to learn of each peer that is gone, while a burst to
    /// one of them is not doubled by its answers.
    package static let peerErrorsPerSecond: UInt16 = 10
    /// Allocations looked at for one page of an operator's list: some 50 µs, for which packets wait.
    static let slotsPerPage: UInt32 = 256
    /// UNKNOWN-ATTRIBUTES is capped so that an answer stays shorter than what provoked it.
    package static let unknownAttributesListed = 8
    /// Addresses in one CreatePermission; a browser sends one.
    package static let addressesPerRequest = 128
    /// Requests that wait for the account store on one worker. Each holds a copy of its datagram.
    package static let parkedRequests = 512
    /// Users who came close to a limit, told of at once; a second later others are.
    package static let nearLimitUsersTold = 16
    /// Deleted allocations whose Refresh may come again within the 40 seconds a client retransmits.
    package static let deletionsRemembered = 1_024
    /// How often a request for an allocation that moves meanwhile is passed on before it is refused.
    package static let moveHops = 16
    /// Revoked users whose allocations may be on their way between two workers.
    package static let revocationsRemembered = 64
    /// Credentials cached on one worker, in each of two generations.
    package static let credentialsCached = 32_768
    /// Names that nobody has, likewise: about a megabyte for both generations, whatever is guessed.
    package static let absentNamesCached = 2_048
    /// Failed proofs that are looked into for each error reply a source may have: with ten replies a second, 200 in a
    /// second cost a worker about a millisecond, and a household of clients with a wrong password never comes near
    /// (case RE-14).
    package static let failuresPerReply: UInt64 = 20
    /// Source buckets of a reply budget: 32 KiB, and a flood from more sources than that shares them.
    package static let replyBuckets = 4_096
    /// A live relay outlasts the credential it was made with by this much, so that a client has time to renew.
    package static let credentialGraceSeconds: UInt64 = 60
    /// Peer ports that answer more than they are asked, or speak for other services (cases AM-13, DEF-13).
    @inline(__always)
    package static func isDenied(peerPort port: UInt16) -> Bool {
        switch port {
        case 0, 19, 53, 123, 161, 389, 1900, 11211: true
        default: false
        }
    }

    /// The same for peers by TCP, and mail besides: an open way to port 25 is used for nothing but spam.
    static func isDenied(streamPeerPort port: UInt16) -> Bool { port == 25 || isDenied(peerPort: port) }

    /// Ports no client has, so a request from one was forged to make two servers talk (CVE-2024-2169, case AM-11).
    @inline(__always)
    package static func isDenied(clientPort port: UInt16) -> Bool {
        switch port {
        case 0, 7, 13, 17, 19, 37, 53, 69, 123, 137, 161, 389, 1900, 11211: true
        default: false
        }
    }
}

/// The two clocks a protocol step needs. Lifetimes follow the first, credentials and nonces the second.
package struct Moment: Hashable, Sendable {
    package var monotonicNanoseconds: UInt64
    package var wallSeconds: UInt64

    @inlinable
    package init(monotonicNanoseconds: UInt64, wallSeconds: UInt64) {
        self.monotonicNanoseconds = monotonicNanoseconds
        self.wallSeconds = wallSeconds
    }

    /// The monotonic time `seconds` from now, in nanoseconds; saturating, so no lifetime can wrap into the past.
    func after(seconds: UInt64) -> UInt64 {
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, carry) = monotonicNanoseconds.addingReportingOverflow(product)
        return overflow || carry ? .max : sum
    }
}

/// Every number that bounds port mapping, with its reason. Times are nanoseconds unless the name says otherwise.
package enum PortMappingLimits {
    /// Where PCP and NAT-PMP are answered (RFC 6887 section 19.1, RFC 6886 section 3.1), and where clients hear of a
    /// gateway that has started anew.
    package static let serverPort: UInt16 = 5_351
    package static let announcementPort: UInt16 = 5_350

    // MARK: Requests

    /// RFC 6886 section 3.1, which is also what RFC 6887 section 8.1.1 would have after its first three seconds: on a
    /// LAN an answer takes milliseconds, and a connection waits no longer than this.
    static let firstWait = 250 * Limits.millisecond
    static let longestWait = 64 * Limits.second
    /// RFC 6886 section 3.1: after nine requests without an answer there is no such service.
    static let transmissions = 9
    /// So many unanswered ones are told as silence; the rest still goes out.
    static let transmissionsBeforeSilence = 3
    /// Services are switched on by hand: a silent gateway is asked again then.
    static let silentRetry = 600 * Limits.second
    /// RFC 6887 section 11.2.1: renewals of one mapping are no closer.
    static let shortestRenewal = 4 * Limits.second
    /// How long a mapping is asked for: RFC 6886 section 3.3 recommends two hours.
    static let wantedLifetimeSeconds: UInt32 = 7_200
    /// RFC 6887 section 15: what a server grants beyond a day is taken for a day.
    static let longestLifetimeSeconds: UInt32 = 86_400
    /// Section 7.4 has 30 seconds and 30 minutes for errors that pass soon or late; what servers say is kept between.
    static let shortErrorSeconds: UInt32 = 30
    static let longErrorSeconds: UInt32 = 1_800
    /// RFC 6887 section 7: the longest message.
    static let messageBytes = 1_100
    /// Ports of one host's that are mapped: UDP and TCP of two programs.
    package static let ports = 4

    // MARK: Gateways that start anew

    /// How often the gateway's epoch is asked for, where it does not say by itself that it has forgotten everything.
    static let epochCheck = 60 * Limits.second
    static let epochTransmissions = 4
    /// Between two rounds of new requests, whatever announcements say: they are not authenticated.
    static let rebootPause = 10 * Limits.second
    /// RFC 6887 section 14.1.3: clients that heard an announcement ask within five seconds, not all at once.
    static let announcementSpread = 5 * Limits.second
    /// Mappings are given back with so many requests, and nobody waits longer for the answers.
    static let releaseTransmissions = 3
    static let releaseTime = Limits.second

    // MARK: UPnP

    package static let searchPort: UInt16 = 1_900
    static let searchTransmissions = 3
    /// Devices answer within a second (MX: 1), and some take longer to think about it.
    static let searchTime = 2 * Limits.second
    /// Who is not the default gateway waits for it.
    static let gatewayPatience = 250 * Limits.millisecond
    /// From here on UPnP maps, if the gateway has not done so by PCP or NAT-PMP.
    static let datagramPatience = 250 * Limits.millisecond
    /// The same where the gateway has answered by one of them, and not yet mapped.
    static let answeredPatience = Limits.second
    static let searchAgain = 600 * Limits.second
    static let searchAnswerBytes = 2_048
    /// Devices of one search whose description is read.
    static let locations = 4
    /// An HTTP exchange, from the connection to the last byte. Old routers think for seconds.
    static let exchangeTime = 5 * Limits.second
    /// Of an answer, with its head. Descriptions of gateways have some 15 KiB.
    static let answerBytes = 98_304
    static let headBytes = 8_192
    /// Interim answers before the one that counts: "100 Continue", and as often again.
    static let interimAnswers = 4
    /// How often chunks are read that look like the last ones; after that the end of the connection is waited for.
    static let chunkReadings = 8
    static let pathBytes = 512
    static let elementBytes = 512
    static let elementNameBytes = 64
    static let leaseSeconds: UInt32 = 3_600
    /// A lease is asked for anew so often, as a device does not tell that it has started anew.
    static let leaseCheck = 600 * Limits.second
    /// External ports that are tried where one is taken.
    static let conflicts = 4
    /// After a refusal.
    static let refusalPause = 600 * Limits.second
    /// A description may be read again so often in a row before the search begins anew.
    static let failures = 2
}

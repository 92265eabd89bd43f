/// How good a link is, in each direction.
package struct LinkQuality: Sendable {
    /// Losses that come together (Gilbert and Elliott): a link is good or bad, and in the bad state it loses this much.
    package struct Bursts: Sendable {
        /// Probabilities for each packet.
        package var beginRatio: Double
        package var endRatio: Double
        package var lossRatio: Double

        package init(beginRatio: Double, endRatio: Double, lossRatio: Double = 1) {
            (self.beginRatio, self.endRatio, self.lossRatio) = (beginRatio, endRatio, lossRatio)
        }
    }

    package var delayMilliseconds: Double
    /// Up to so much is added to the delay, evenly distributed. Packets stay in order all the same.
    package var jitterMilliseconds: Double
    package var lossRatio: Double
    package var bursts: Bursts?
    /// Packets that later ones may overtake: they come up to `reorderMilliseconds` later.
    package var reorderRatio: Double
    package var reorderMilliseconds: Double = 20
    package var duplicateRatio: Double = 0
    /// nil is as fast as can be.
    package var bitsPerSecond: Double?
    /// What waits for its turn when packets come faster than that.
    package var queueBytes = 262_144
    package var mtuBytes: Int
    /// Whether a packet that is too long vanishes without a word of ICMP.
    package var isBlackHole = false

    package init(
        delayMilliseconds: Double = 10,
        jitterMilliseconds: Double = 0,
        lossRatio: Double = 0,
        bursts: Bursts? = nil,
        reorderRatio: Double = 0,
        bitsPerSecond: Double? = nil,
        mtuBytes: Int = 1_500
    ) {
        self.delayMilliseconds = delayMilliseconds
        self.jitterMilliseconds = jitterMilliseconds
        self.lossRatio = lossRatio
        self.bursts = bursts
        self.reorderRatio = reorderRatio
        self.bitsPerSecond = bitsPerSecond
        self.mtuBytes = mtuBytes
    }

    /// Within a house.
    package static let local = LinkQuality(delayMilliseconds: 0.5)
    /// From a house, or a server, to the internet.
    package static let access = LinkQuality(delayMilliseconds: 10)
}

/// A cable with two ends: `up` leads towards the network, `down` away from it.
package final class Link {
    package let name: String
    package var quality: LinkQuality
    package private(set) var isUp = true
    /// Counts the cuts, so that what was under way when one came is lost.
    fileprivate var cuts = 0
    lazy var up = Pipe(of: self, internet, part: "\(name) up")
    lazy var down = Pipe(of: self, internet, part: "\(name) down")
    private unowned let internet: Internet

    init(_ name: String, _ quality: LinkQuality, in internet: Internet) {
        self.name = name
        self.quality = quality
        self.internet = internet
    }

    /// Loses what is on it, and all that comes until `restore`.
    package func cut() {
        isUp = false
        cuts += 1
    }

    package func restore() { isUp = true }

    /// Cuts it so many seconds from this moment, for so long.
    package func cut(afterSeconds delay: Double, forSeconds duration: Double) {
        internet.scheduler.after(seconds: delay) { [weak self] in self?.cut() }
        internet.scheduler.after(seconds: delay + duration) { [weak self] in self?.restore() }
    }
}

/// One direction of a link.
final class Pipe {
    private unowned let link: Link
    /// Takes what comes out.
    var deliver: (Packet) -> Void = { _ in }
    /// Hears of a packet that is longer than the link takes.
    var refuse: (Packet, _ mtuBytes: Int) -> Void = { _, _ in }
    private unowned let internet: Internet
    private var model: LinkModel

    init(of link: Link, _ internet: Internet, part: String) {
        self.link = link
        self.internet = internet
        model = LinkModel(dice: Dice(seed: internet.seed, for: part))
    }

    func transmit(_ packet: Packet) {
        let quality = link.quality
        guard link.isUp else { return drop(packet, .linkDown) }
        guard packet.byteCount <= quality.mtuBytes else {
            drop(packet, .tooBig)
            if !quality.isBlackHole { refuse(packet, quality.mtuBytes) }
            return
        }
        switch model.send(byteCount: packet.byteCount, quality, now: internet.now) {
        case .dropped(let reason): drop(packet, reason)
        case .arrives(let arrival, let copy):
            send(packet, at: arrival)
            guard let copy else { return }
            internet.note(.duplicated, packet, at: link.name)
            send(packet, at: copy)
        }
    }

    private func send(_ packet: Packet, at arrival: UInt64) {
        let cuts = link.cuts
        internet.log.inFlight += 1
        internet.scheduler.at(arrival) { [self] in
            internet.log.inFlight -= 1
            if link.cuts == cuts { deliver(packet) } else { drop(packet, .linkDown) }
        }
    }

    private func drop(_ packet: Packet, _ reason: Drop) { internet.note(.dropped(reason), packet, at: link.name) }
}

import DataChannels

/// The channels of one session: which of the program's stands for which of the association's, and what waits to be
/// sent. The first one is the connection's own.
struct SessionChannels {
    struct Sending {
        let message: Message
        let done: (MessageChannelError?) -> Void
    }

    struct Entry {
        let channel: MessageChannel?
        /// Where messages wait for a program's task, unless they have a user.
        let queue: MessageQueue?
        /// Gets messages at once.
        var user: (any ChannelUser)?
        /// Nil until the association has it.
        var stream: UInt16?
        var waiting: [Sending] = []
        var closing: [() -> Void] = []
    }

    static let own = 0

    private(set) var entries: [Int: Entry] = [:]
    private var byStream: [UInt16: Int] = [:]
    private var nextNumber = 1

    /// - Parameter channel: nil for the connection's own.
    mutating func add(_ make: (Int) -> (MessageChannel?, MessageQueue), stream: UInt16?) -> Int {
        let number = nextNumber
        nextNumber += 1
        let (channel, queue) = make(number)
        entries[number] = Entry(channel: channel, queue: queue, stream: stream)
        if let stream { byStream[stream] = number }
        return number
    }

    mutating func add(_ user: any ChannelUser, stream: UInt16) -> Int {
        let number = nextNumber
        nextNumber += 1
        entries[number] = Entry(channel: nil, queue: nil, user: user, stream: stream)
        byStream[stream] = number
        return number
    }

    mutating func addOwn(_ queue: MessageQueue) { entries[Self.own] = Entry(channel: nil, queue: queue) }

    mutating func bind(_ number: Int, to stream: UInt16) {
        entries[number]?.stream = stream
        byStream[stream] = number
    }

    func number(of stream: UInt16) -> Int? { byStream[stream] }

    subscript(number: Int) -> Entry? { entries[number] }

    mutating func wait(_ sending: Sending, on number: Int) { entries[number]?.waiting.append(sending) }

    mutating func removeFirstWaiting(of number: Int) { entries[number]?.waiting.removeFirst() }

    mutating func waitForClose(_ number: Int, _ done: @escaping () -> Void) { entries[number]?.closing.append(done) }

    var isAnyFull: Bool { entries.values.contains { $0.queue?.isFull == true } }

    mutating func end(_ number: Int) {
        guard let entry = entries.removeValue(forKey: number) else { return }
        if let stream = entry.stream { byStream[stream] = nil }
        entry.queue?.finish()
        entry.user?.ended()
        for sending in entry.waiting { sending.done(.closed) }
        for done in entry.closing { done() }
    }

    mutating func endAll() { for number in entries.keys.sorted() { end(number) } }
}

extension PeerSession {
    func take(_ event: DataChannelEvent) {
        switch event {
        case .opened: noteAssociation()
        case .channelOpened(let channel, let byPeer): if byPeer { accept(channel) }
        case .message(let stream, let bytes, let isText):
            guard let number = channels.number(of: stream), let entry = channels[number] else { return }
            connection?.noteReceived(bytes.count)
            if let user = entry.user { return user.receive(bytes) }
            if entry.queue?.append(Message(bytes: bytes, isText: isText)) == false { link?.isReadingHeld = true }
        case .writable(let stream), .bufferedAmountLow(let stream):
            guard let number = channels.number(of: stream) else { return }
            if let user = channels[number]?.user { user.becameWritable() } else { flush(number) }
        case .channelClosed(let stream, _):
            guard let number = channels.number(of: stream) else { return }
            channels.end(number)
            resumeReading()
        case .closed: break
        }
    }

    /// The association stands. The offerer opens the connection's own channel, and the other side sends once it comes;
    /// where both knew before, both open it, and nothing has to come.
    private func noteAssociation() {
        guard let link, let association = link.association else { return }
        if channels[SessionChannels.own] == nil { channels.addOwn(ownQueue) }
        let isKnown = link.carried.hasAssociations
        if link.isOfferer || isKnown {
            do throws(DataChannelError) {
                var configuration = DataChannelConfiguration(label: ClientLimits.ownChannelLabel)
                if isKnown { configuration.negotiatedID = ClientLimits.ownStream }
                let channel = try association.openChannel(configuration)
                channels.bind(SessionChannels.own, to: channel.id)
                flush(SessionChannels.own)
            } catch {
                return link.finish(.failed(.limit, error.description))
            }
            link.settle()
        }
        becomeOpen()
    }

    private func accept(_ channel: DataChannel) {
        // One with a subprotocol is for whoever speaks that.
        let isPlain = channel.isOrdered && channel.reliability == .reliable && channel.subprotocol.isEmpty
        let isOwn =
            link?.isOfferer == false && channels[SessionChannels.own]?.stream == nil
            && (channel.label == ClientLimits.ownChannelLabel || (isPlain && !isTurnpikePeer))
        if isOwn, channels[SessionChannels.own] != nil {
            channels.bind(SessionChannels.own, to: channel.id)
            return flush(SessionChannels.own)
        }
        guard let connection else {
            link?.association?.closeChannel(channel.id)
            return
        }
        if let user = host.user(of: channel, in: self) {
            let number = channels.add(user, stream: channel.id)
            return user.begin(on: number)
        }
        let queue = makeQueue()
        var made: MessageChannel?
        _ = channels.add(
            { number in
                let accepted = MessageChannel(channel, number: number, of: connection, queue: queue)
                made = accepted
                return (accepted, queue)
            },
            stream: channel.id
        )
        if let made { connection.offer(made) }
    }

    func makeQueue() -> MessageQueue {
        let resume = host.resumer(number)
        return MessageQueue(onRoom: resume)
    }

    /// A full queue has room again.
    func resumeReading() {
        if !channels.isAnyFull { link?.isReadingHeld = false }
    }

    // MARK: Calls

    func open(_ configuration: DataChannelConfiguration) -> Result<MessageChannel, MessageChannelError> {
        guard phase == .open, let association = link?.association, let connection else { return .failure(.closed) }
        do throws(DataChannelError) {
            let opened = try association.openChannel(configuration)
            let queue = makeQueue()
            var made: MessageChannel?
            _ = channels.add(
                { number in
                    let channel = MessageChannel(opened, number: number, of: connection, queue: queue)
                    made = channel
                    return (channel, queue)
                },
                stream: opened.id
            )
            link?.settle()
            return made.map(Result.success) ?? .failure(.closed)
        } catch {
            return .failure(error == .closed ? .closed : .refused(error.description))
        }
    }

    /// A channel whose messages go to its user.
    /// - Returns: its number.
    func open(
        _ configuration: DataChannelConfiguration,
        for user: any ChannelUser
    ) -> Result<Int, MessageChannelError> {
        guard phase == .open, let association = link?.association else { return .failure(.closed) }
        do throws(DataChannelError) {
            let opened = try association.openChannel(configuration)
            return .success(channels.add(user, stream: opened.id))
        } catch {
            return .failure(error == .closed ? .closed : .refused(error.description))
        }
    }

    /// Gives bytes to a channel that has a user, whole or not at all; `settle` of the link sends them.
    /// - Parameter unsentLimit: the bytes of the channel that may wait to be sent the first time. Beyond it, and where
    ///   the association has no room, `becameWritable` follows.
    func give(_ bytes: UnsafeRawBufferPointer, on number: Int, unsentLimit: Int) -> SendOutcome {
        guard phase == .open, let association = link?.association, let stream = channels[number]?.stream else {
            return .notOpen
        }
        guard association.bufferedAmount(of: stream) < unsentLimit else {
            association.setBufferedAmountLowThreshold(unsentLimit / 2, of: stream)
            return .wouldBlock
        }
        let outcome = association.send(bytes, on: stream)
        if outcome == .sent { connection?.noteSent(bytes.count) }
        return outcome
    }

    /// - Parameter done: called when the message was taken, or is not going to be.
    func send(_ message: Message, on number: Int, _ done: @escaping (MessageChannelError?) -> Void) {
        guard phase == .open, let entry = channels[number] else { return done(.closed) }
        guard entry.waiting.isEmpty, entry.stream != nil else {
            return channels.wait(SessionChannels.Sending(message: message, done: done), on: number)
        }
        switch give(message, entry) {
        case .sent:
            link?.settle()
            done(nil)
        case .wouldBlock: channels.wait(SessionChannels.Sending(message: message, done: done), on: number)
        case .tooLong: done(tooLong(message))
        case .notOpen: done(.closed)
        }
    }

    private func give(_ message: Message, _ entry: SessionChannels.Entry) -> SendOutcome {
        guard let association = link?.association, let stream = entry.stream else { return .notOpen }
        let outcome = message.bytes.withUnsafeBytes { association.send($0, isText: message.isText, on: stream) }
        if outcome == .sent { connection?.noteSent(message.bytes.count) }
        return outcome
    }

    private func tooLong(_ message: Message) -> MessageChannelError {
        let limit = min(
            link?.association?.remoteMaxMessageBytes ?? 0,
            link?.association?.options.sendBufferBytes ?? 0
        )
        return .tooLong(bytes: message.bytes.count, limit: limit)
    }

    private func flush(_ number: Int) {
        while let entry = channels[number], let sending = entry.waiting.first {
            let outcome = give(sending.message, entry)
            if outcome == .wouldBlock { break }
            channels.removeFirstWaiting(of: number)
            switch outcome {
            case .sent, .wouldBlock: sending.done(nil)
            case .tooLong: sending.done(tooLong(sending.message))
            case .notOpen: sending.done(.closed)
            }
        }
        link?.settle()
    }

    /// What was sent before still goes.
    func closeChannel(_ number: Int, _ done: @escaping () -> Void) {
        guard let entry = channels[number], let stream = entry.stream, let link else {
            channels.end(number)
            return done()
        }
        // What comes until then goes nowhere, and holds up nothing.
        entry.queue?.finish()
        channels.waitForClose(number, done)
        resumeReading()
        link.association?.closeChannel(stream)
        link.settle()
    }
}

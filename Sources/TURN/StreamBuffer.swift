import STUN

/// What `StreamBuffer.next` found.
package enum StreamFrame {
    /// A STUN message, or ChannelData without its padding. Valid until `StreamBuffer.keep` or the end of the input.
    case frame(UnsafeRawBufferPointer)
    /// The bytes at hand hold no further whole frame.
    case incomplete
    /// The connection must be closed: see `FrameOutcome.desynchronised`.
    case desynchronised
}

/// The part of one connection's input that waits for the rest of its frame.
///
/// Input is read into memory that all connections share, and frames are handed out where they lie there. Only a frame
/// that the input cuts off is copied here, each byte once, so that a frame sent byte by byte costs no more than one
/// sent whole. A connection that is between two frames owns no memory; one within a frame owns at most twice what it
/// has sent of it, whatever length the frame claims.
///
///     read into shared memory ─▶ next, next, … ─▶ use the frames ─▶ keep(the rest)
package struct StreamBuffer: ~Copyable {
    /// Bytes received that no frame handed out so far holds.
    package var count: Int { end &- start }
    /// Memory owned at the moment.
    package var allocatedBytes: Int { capacity &+ retiredCapacity }

    /// Kept bytes are `start..<end`; those before `start` were handed out since the last `keep`.
    private var storage: UnsafeMutableRawPointer?
    private var capacity = 0
    private var start = 0
    private var end = 0
    /// Storage that was outgrown while frames handed out lie in it.
    private var retired: UnsafeMutableRawPointer?
    private var retiredCapacity = 0
    private var hasFramed = false

    package init() {}

    /// Takes the next frame: from the bytes kept and then from `input`, whose front is cut off as it is used.
    ///
    /// - Parameter input: What was read since; empty to see only whether the bytes kept hold a frame.
    package mutating func next(_ input: inout UnsafeRawBufferPointer, acceptsWideChannels: Bool) -> StreamFrame {
        while true {
            let isKept = start < end
            let bytes = isKept ? kept : input
            switch StreamFramer.next(bytes, isFirst: !hasFramed, acceptsWideChannels: acceptsWideChannels) {
            case .frame(let length, let consumed):
                hasFramed = true
                if isKept {
                    start &+= consumed
                } else {
                    input = UnsafeRawBufferPointer(rebasing: input[consumed...])
                }
                return .frame(UnsafeRawBufferPointer(rebasing: bytes[..<length]))
            case .incomplete(let needed):
                guard isKept, !input.isEmpty else { return .incomplete }
                // No more than this frame lacks: what follows it can be used where it lies.
                let taken = min(needed &- count, input.count)
                append(UnsafeRawBufferPointer(rebasing: input[..<taken]))
                input = UnsafeRawBufferPointer(rebasing: input[taken...])
            case .desynchronised:
                return .desynchronised
            }
        }
    }

    /// Copies what `next` left of the input, and frees what it handed out: no frame may be used any more.
    ///
    /// - Parameter rest: May hold whole frames too, where their turn has not come.
    package mutating func keep(_ rest: UnsafeRawBufferPointer) {
        releaseRetired()
        if !rest.isEmpty { append(rest) }
        releaseRetired()
        if start == end {
            release()
        } else if start > 0, capacity > 64, capacity > 4 &* count {
            // What is left of a long queue shall not keep that queue's memory.
            grow(toHold: count)
            releaseRetired()
        }
    }

    /// Gives out what is kept and forgets it: for a connection that carries frames no longer. No frame may be used any
    /// more.
    package mutating func takeRest() -> [UInt8] {
        defer { release() }
        releaseRetired()
        return Array(kept)
    }

    private var kept: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: storage.map { UnsafeRawPointer($0 + start) }, count: count)
    }

    private mutating func append(_ bytes: UnsafeRawBufferPointer) {
        if capacity &- end < bytes.count { grow(toHold: count &+ bytes.count) }
        guard let storage, let source = bytes.baseAddress else { return }
        (storage + end).copyMemory(from: source, byteCount: bytes.count)
        end &+= bytes.count
    }

    /// Moves the bytes kept to storage of their own. Doubling bounds what moving costs by what has come in.
    private mutating func grow(toHold needed: Int) {
        let grownCapacity = max(64, needed, 2 &* count)
        let grown = UnsafeMutableRawPointer.allocate(byteCount: grownCapacity, alignment: 16)
        let held = count
        if let storage {
            grown.copyMemory(from: storage + start, byteCount: held)
            if start > 0, retired == nil {
                // Once between two calls of `keep` at most: afterwards the storage begins with a frame that no one
                // has seen, and when that is handed out the storage is empty and every other frame is the input's.
                retired = storage
                retiredCapacity = capacity
            } else {
                storage.deallocate()
            }
        }
        storage = grown
        capacity = grownCapacity
        start = 0
        end = held
    }

    private mutating func releaseRetired() {
        retired?.deallocate()
        retired = nil
        retiredCapacity = 0
    }

    private mutating func release() {
        storage?.deallocate()
        storage = nil
        capacity = 0
        start = 0
        end = 0
    }

    deinit {
        storage?.deallocate()
        retired?.deallocate()
    }
}

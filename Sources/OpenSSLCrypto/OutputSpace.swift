/// Memory that the sessions of one thread share for ciphertext on its way out, so that a record costs no memory of the
/// session's own: what one sealed is sent before another seals. One that finds it in use takes memory of its own.
package final class OutputSpace {
    /// What the pipes of sessions see of it.
    struct Storage {
        let bytes: UnsafeMutableRawBufferPointer
        var used = 0
        /// Whose ciphertext lies here; nil for nobody's.
        var owner: UnsafeMutablePointer<SessionPipe>?

        mutating func clear() {
            used = 0
            owner = nil
        }
    }

    let storage: UnsafeMutablePointer<Storage>

    /// - Parameter byteCount: of all that a session seals before it is sent.
    package init(byteCount: Int) {
        storage = .allocate(capacity: 1)
        storage.initialize(to: Storage(bytes: .allocate(byteCount: byteCount, alignment: 64)))
    }

    // Every session holds the space it uses, so none is left.
    deinit {
        storage.pointee.bytes.deallocate()
        storage.deallocate()
    }
}

/// The way out of a stream's session: into the shared space while it has room, else into the session's own queue.
extension SessionPipe {
    /// Ciphertext that waits, in one piece.
    static func pending(_ pipe: UnsafeMutablePointer<SessionPipe>) -> UnsafeRawBufferPointer {
        guard let space = pipe.pointee.space, space.pointee.owner == pipe else { return pipe.pointee.output.bytes }
        return UnsafeRawBufferPointer(rebasing: space.pointee.bytes[..<space.pointee.used])
    }

    static func pendingCount(_ pipe: UnsafeMutablePointer<SessionPipe>) -> Int {
        guard let space = pipe.pointee.space, space.pointee.owner == pipe else { return pipe.pointee.output.count }
        return space.pointee.used
    }

    static func append(_ ciphertext: UnsafeRawBufferPointer, to pipe: UnsafeMutablePointer<SessionPipe>) {
        guard let space = pipe.pointee.space else { return pipe.pointee.output.append(ciphertext) }
        let isOurs = space.pointee.owner == pipe
        let used = isOurs ? space.pointee.used : 0
        if isOurs || (space.pointee.owner == nil && pipe.pointee.output.count == 0),
            ciphertext.count <= space.pointee.bytes.count &- used
        {
            let room = UnsafeMutableRawBufferPointer(rebasing: space.pointee.bytes[used..<(used &+ ciphertext.count)])
            room.copyMemory(from: ciphertext)
            space.pointee.used = used &+ ciphertext.count
            space.pointee.owner = pipe
            return
        }
        if isOurs { moveOut(pipe, from: 0) }
        pipe.pointee.output.append(ciphertext)
    }

    /// Forgets the first bytes of what waits. The others leave the space, so that it is free for another session.
    static func remove(_ count: Int, from pipe: UnsafeMutablePointer<SessionPipe>) {
        guard let space = pipe.pointee.space, space.pointee.owner == pipe else {
            pipe.pointee.output.remove(count)
            return
        }
        moveOut(pipe, from: min(max(count, 0), space.pointee.used))
    }

    /// Takes what waits along, and uses the space no more.
    static func leaveSpace(_ pipe: UnsafeMutablePointer<SessionPipe>) {
        if let space = pipe.pointee.space, space.pointee.owner == pipe { moveOut(pipe, from: 0) }
        pipe.pointee.space = nil
    }

    private static func moveOut(_ pipe: UnsafeMutablePointer<SessionPipe>, from start: Int) {
        guard let space = pipe.pointee.space else { return }
        pipe.pointee.output.append(UnsafeRawBufferPointer(rebasing: space.pointee.bytes[start..<space.pointee.used]))
        space.pointee.clear()
    }
}

import NIOCore
import NIOPosix
import OpenSSLCrypto

extension NIONetwork {
    /// Does one job on a loop of its own, for a program that has no other.
    /// - Parameter begin: called on the loop. It calls what it is given once, on the loop, with the result, and returns
    ///   what has to live until then.
    /// - Throws: where the system's cryptography is not there.
    package static func job<Value: Sendable>(
        _ begin: @escaping @Sendable (NIONetwork, @escaping (Value) -> Void) -> AnyObject
    ) async throws -> Value {
        let cryptography = try OpenSSLCryptography()
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.next()
        let value = await withCheckedContinuation { continuation in
            loop.execute {
                let network = NIONetwork(loop, cryptography: cryptography)
                let job = Job()
                // Not from within the call that has brought the result: what is held would go below its feet.
                let release = network.alarm { job.held = nil }
                job.held = begin(network) { value in
                    guard !job.isOver else { return }
                    job.isOver = true
                    release.set(at: network.nowNanoseconds)
                    continuation.resume(returning: value)
                }
            }
        }
        try await group.shutdownGracefully()
        return value
    }

    /// Stays on the loop.
    private final class Job {
        var held: AnyObject?
        var isOver = false
    }
}

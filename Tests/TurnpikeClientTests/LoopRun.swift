import NIOCore
import NIOPosix
import OpenSSLCrypto
import TurnpikeClient

/// Runs `body` on a loop of its own with the real network; what it returns is kept until `done` was called with a
/// result.
func onLoop<Result: Sendable>(
    _ body: @escaping @Sendable (NIONetwork, @escaping (Result) -> Void) throws -> [AnyObject?]
) async throws -> Result {
    let loop = MultiThreadedEventLoopGroup.singleton.next()
    let promise = loop.makePromise(of: Result.self)
    let cryptography = try OpenSSLCryptography()
    loop.execute {
        let network = NIONetwork(loop, cryptography: cryptography)
        do {
            let kept = try body(network) { promise.succeed($0) }
            promise.futureResult.assumeIsolated().whenComplete { _ in withExtendedLifetime((network, kept)) {} }
        } catch {
            promise.fail(error)
        }
    }
    return try await promise.futureResult.get()
}

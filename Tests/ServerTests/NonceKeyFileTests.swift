import Foundation
import TURN
import Testing

@testable import Server

/// The key of nonces gets a day, and the one before it goes on for another.
@Suite struct NonceKeyFileTests {
    @Test func aKeyIsMadeOnceKeptAndRenewedWithTheOneBeforeIt() throws {
        let directory = try Directory()
        let file = NonceKeyFile(dataDirectory: directory.path)
        let first = try file.load()
        #expect(first.current.count == 32 && first.previous == nil)
        #expect(try file.load().current == first.current)
        let second = try file.rotate(first)
        #expect(second.previous == first.current && second.current != first.current)
        let read = try file.load()
        #expect(read.current == second.current && read.previous == second.previous)
        let third = try file.rotate(read)
        #expect(third.previous == second.current)
        #expect(try file.load().current == third.current)
        var status = stat()
        #expect(lstat(file.path, &status) == 0 && status.st_mode & 0o777 == 0o600 && status.st_size == 64)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["nonce.key"])
    }

    @Test func aKeyIsDueAfterADayAndWhenItsTimeIsNonsense() throws {
        let directory = try Directory()
        let file = NonceKeyFile(dataDirectory: directory.path)
        #expect(file.isDue(atSeconds: 0))
        _ = try file.load()
        var status = stat()
        #expect(lstat(file.path, &status) == 0)
        let made = Int64(status.st_mtim.tv_sec)
        for (age, isDue) in [(0, false), (86_399, false), (86_400, true), (-3_600, false), (-86_400, true)] {
            #expect(file.isDue(atSeconds: made + Int64(age)) == isDue, "\(age)")
        }
        #expect(file.isDue(atSeconds: .min) && file.isDue(atSeconds: .max))
    }

    @Test func whoDiesInTheMiddleLeavesTheOldKeyAndTheNextOneGoesOn() throws {
        let directory = try Directory()
        let file = NonceKeyFile(dataDirectory: directory.path)
        let first = try file.load()
        try Data([1, 2, 3]).write(to: URL(fileURLWithPath: file.path + ".new"))
        #expect(try file.load().current == first.current)
        #expect(try file.rotate(first).previous == first.current)
    }

    @Test func aLinkIsNotFollowed() throws {
        let directory = try Directory()
        let file = NonceKeyFile(dataDirectory: directory.path)
        let first = try file.load()
        let other = directory.path + "/other"
        try Data(repeating: 7, count: 32).write(to: URL(fileURLWithPath: other))
        try FileManager.default.createSymbolicLink(atPath: file.path + ".new", withDestinationPath: other)
        _ = try file.rotate(first)
        #expect(try Data(contentsOf: URL(fileURLWithPath: other)) == Data(repeating: 7, count: 32))
    }
}

private final class Directory {
    let path = NSTemporaryDirectory() + "nonce-key-" + UUID().uuidString

    init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

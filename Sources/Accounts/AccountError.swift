import Foundation
import GRDB

/// What the account store could not do. `message` is one line: what happened, where, and the mend.
package struct AccountError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Opaque, so that a new kind of failure breaks nobody's `switch`.
    package struct Code: Hashable, Sendable {
        private enum Kind: Hashable {
            case invalidName, invalidRealm, invalidValue, alreadyExists, notFound
            case missing, unsafeFile, corrupt, foreign, newerSchema, olderSchema, readOnly, busy, full, inputOutput
        }

        private let kind: Kind

        /// A user's or secret's name that breaks the rules of `AccountName`.
        package static let invalidName = Self(kind: .invalidName)
        package static let invalidRealm = Self(kind: .invalidRealm)
        /// A key, secret, limit or time that is out of its range.
        package static let invalidValue = Self(kind: .invalidValue)
        package static let alreadyExists = Self(kind: .alreadyExists)
        package static let notFound = Self(kind: .notFound)
        /// The data directory or the database is not there.
        package static let missing = Self(kind: .missing)
        /// A file or directory that somebody else could read, change or redirect.
        package static let unsafeFile = Self(kind: .unsafeFile)
        package static let corrupt = Self(kind: .corrupt)
        /// An SQLite database, but not one of Turnpike's.
        package static let foreign = Self(kind: .foreign)
        package static let newerSchema = Self(kind: .newerSchema)
        package static let olderSchema = Self(kind: .olderSchema)
        package static let readOnly = Self(kind: .readOnly)
        package static let busy = Self(kind: .busy)
        package static let full = Self(kind: .full)
        package static let inputOutput = Self(kind: .inputOutput)
    }

    package let code: Code
    package let message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { message }
}

extension AccountError {
    /// Puts SQLite's failures into the operator's words.
    /// - Parameter path: the database's path, so that the message says where.
    init(_ error: any Error, path: String) {
        if let error = error as? AccountError {
            self = error
            return
        }
        guard let error = error as? DatabaseError else {
            self.init(.inputOutput, "\(path): \(error)")
            return
        }
        let detail = error.message ?? "SQLite error \(error.extendedResultCode.rawValue)"
        switch error.resultCode {
        case .SQLITE_NOTADB, .SQLITE_CORRUPT:
            self = .corrupt(path: path, detail: detail)
        case .SQLITE_BUSY, .SQLITE_LOCKED:
            let seconds = AccountLimits.busyTimeoutSeconds
            self.init(
                .busy,
                "\(path) has been locked by another process for \(seconds) s; try again, "
                    + "or end the process that holds it"
            )
        case .SQLITE_FULL:
            self.init(.full, "no space left to write \(path); free some space and repeat the command")
        case .SQLITE_READONLY:
            self.init(.readOnly, "\(path) cannot be written (\(detail)); run the command as the file's owner")
        case .SQLITE_CANTOPEN, .SQLITE_PERM, .SQLITE_AUTH:
            self.init(.inputOutput, "\(path) cannot be opened (\(detail)); run the command as the file's owner")
        case .SQLITE_IOERR:
            self.init(
                .inputOutput,
                "\(path): \(detail) (SQLite code \(error.extendedResultCode.rawValue)); "
                    + "check the disk's space, quota and health, and repeat the command"
            )
        default:
            self.init(
                .inputOutput,
                "\(path): \(detail) (SQLite code \(error.extendedResultCode.rawValue)); "
                    + "repeat the command, and restore a backup if it fails again"
            )
        }
    }

    static func corrupt(path: String, detail: String) -> AccountError {
        AccountError(
            .corrupt,
            "\(path) is damaged (\(detail)); restore it from a backup, "
                + "or move it and its -wal file away and add the users again"
        )
    }
}

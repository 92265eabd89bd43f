/// The server cannot start or go on: what, where and the mend, in one line.
package struct ServerError: Error, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

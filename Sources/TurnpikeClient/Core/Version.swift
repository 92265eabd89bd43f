/// The version of the client library and its tool, which is the server's: they leave one tree together.
package enum ClientVersion {
    package static let current = "0.1.0"
}

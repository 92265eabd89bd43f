// What this library finds out is in these modules' types, and the tool that shows it needs them and no more of either.
// None of them has public API, so nothing of this reaches whoever uses the library.
@_exported import DataChannels
@_exported import OpenSSLCrypto
@_exported import Traversal

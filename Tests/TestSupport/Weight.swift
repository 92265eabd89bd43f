/// How many values can be reached from this one: bytes, numbers, texts, and what holds them. What grows without a bound
/// weighs more and more.
/// - Parameter isForeign: which objects belong to somebody else, and count as nothing.
package func weight(of value: Any, except isForeign: (AnyObject) -> Bool = { _ in false }) -> Int {
    var seen: Set<ObjectIdentifier> = []
    func weigh(_ value: Any) -> Int {
        if let bytes = value as? [UInt8] { return bytes.count }
        let mirror = Mirror(reflecting: value)
        if mirror.displayStyle == .class {
            let object = value as AnyObject
            guard !isForeign(object), seen.insert(ObjectIdentifier(object)).inserted else { return 0 }
        }
        return mirror.children.reduce(1) { $0 + weigh($1.value) }
    }
    return weigh(value)
}

/// One pass over a JSON text (RFC 8259) that checks all of it and copies nothing.
///
/// What passes is well-formed for every reader there is, so a part of it can be sent on byte for byte: it is UTF-8
/// without a byte-order mark, no string holds half a surrogate pair, no object has a key twice (RFC 8259 section 4
/// leaves open which of the two a reader takes), every number fits a double, and depth, members and values are bounded
/// before anything recurses. The bytes belong to the caller and outlive the scanner.
struct JSONScanner {
    let base: UnsafePointer<UInt8>
    let count: Int
    var index = 0
    private let depthMax: Int
    private var membersLeft: Int
    private var valuesLeft: Int
    /// The keys of all objects that are open, those of the innermost last.
    private var keys: [JSONKey]

    /// - Parameter scratch: memory of a scanner before, taken back with `releaseScratch`.
    init(
        base: UnsafePointer<UInt8>,
        count: Int,
        limits: JSONLimits = .fromClients,
        scratch: consuming [JSONKey] = []
    ) {
        self.base = base
        self.count = count
        depthMax = limits.depthMax
        membersLeft = limits.membersMax
        valuesLeft = limits.valuesMax
        keys = scratch
        keys.removeAll(keepingCapacity: true)
    }

    mutating func releaseScratch() -> [JSONKey] {
        let scratch = keys
        keys = []
        return scratch
    }

    /// The byte at the index. The end reads as NUL, which stands nowhere in a JSON text.
    @inline(__always)
    var current: UInt8 { index < count ? base[index] : 0 }

    func fault(_ reason: JSONFault.Reason) -> JSONFault { JSONFault(reason: reason, offset: index) }

    mutating func skipBlanks() {
        while current == 0x20 || current == 0x0A || current == 0x0D || current == 0x09 { index &+= 1 }
    }

    /// The whole text as one object; `member` sees each key and its value in order.
    mutating func document(_ member: (borrowing JSONScanner, JSONKey, JSONSpan) -> Void) throws(JSONFault) {
        skipBlanks()
        guard current == UInt8(ascii: "{") else { throw fault(.syntax) }
        try object(depth: 1, member)
        skipBlanks()
        guard index == count else { throw fault(.trailingBytes) }
    }

    /// The value at the index, which is behind it afterwards.
    mutating func value(depth: Int) throws(JSONFault) -> JSONSpan {
        guard valuesLeft > 0 else { throw fault(.tooManyValues) }
        valuesLeft &-= 1
        let start = index
        let kind: JSONKind
        switch current {
        case UInt8(ascii: "\""):
            kind = try string() ? .escapedString : .string
        case UInt8(ascii: "{"):
            try object(depth: depth) { _, _, _ in }
            kind = .object
        case UInt8(ascii: "["):
            try array(depth: depth)
            kind = .array
        case UInt8(ascii: "t"):
            try word("true")
            kind = .bool
        case UInt8(ascii: "f"):
            try word("false")
            kind = .bool
        case UInt8(ascii: "n"):
            try word("null")
            kind = .null
        default:
            try number()
            kind = .number
        }
        return JSONSpan(kind: kind, start: start, end: index)
    }

    private mutating func object(
        depth: Int,
        _ member: (borrowing JSONScanner, JSONKey, JSONSpan) -> Void
    ) throws(JSONFault) {
        guard depth <= depthMax else { throw fault(.tooDeep) }
        let outer = keys.count
        index &+= 1
        skipBlanks()
        if current == UInt8(ascii: "}") {
            index &+= 1
            return
        }
        while true {
            let key = try key(since: outer)
            skipBlanks()
            guard current == UInt8(ascii: ":") else { throw fault(.syntax) }
            index &+= 1
            skipBlanks()
            let span = try value(depth: depth &+ 1)
            member(self, key, span)
            skipBlanks()
            if current == UInt8(ascii: "}") { break }
            guard current == UInt8(ascii: ",") else { throw fault(.syntax) }
            index &+= 1
            skipBlanks()
        }
        index &+= 1
        keys.removeSubrange(outer...)
    }

    private mutating func array(depth: Int) throws(JSONFault) {
        guard depth <= depthMax else { throw fault(.tooDeep) }
        index &+= 1
        skipBlanks()
        if current == UInt8(ascii: "]") {
            index &+= 1
            return
        }
        while true {
            _ = try value(depth: depth &+ 1)
            skipBlanks()
            if current == UInt8(ascii: "]") { break }
            guard current == UInt8(ascii: ",") else { throw fault(.syntax) }
            index &+= 1
            skipBlanks()
        }
        index &+= 1
    }

    /// A key that the object, whose keys begin at `outer`, does not have yet.
    private mutating func key(since outer: Int) throws(JSONFault) -> JSONKey {
        guard current == UInt8(ascii: "\"") else { throw fault(.syntax) }
        // No object has more members than a client's message may have, wherever it came from.
        guard membersLeft > 0, keys.count &- outer < SignalingLimits.jsonMembersMax else {
            throw fault(.tooManyMembers)
        }
        membersLeft &-= 1
        let start = index &+ 1
        let isEscaped = try string()
        let end = index &- 1
        let key = JSONKey(start: start, end: end, isEscaped: isEscaped, hash: hash(start, end, isEscaped))
        for other in outer..<keys.count where keys[other].hash == key.hash {
            if isEqual(keys[other], key) { throw fault(.duplicateKey) }
        }
        keys.append(key)
        return key
    }

    private mutating func word(_ text: StaticString) throws(JSONFault) {
        guard index &+ text.utf8CodeUnitCount <= count else { throw fault(.syntax) }
        for offset in 0..<text.utf8CodeUnitCount where base[index &+ offset] != text.utf8Start[offset] {
            throw fault(.syntax)
        }
        index &+= text.utf8CodeUnitCount
    }

    private mutating func digits() throws(JSONFault) -> Int {
        let start = index
        while isDigit(current) { index &+= 1 }
        guard index > start else { throw fault(.syntax) }
        return index &- start
    }

    /// RFC 8259 section 6, and no more than a double holds: a reader would make infinity of it, or fail.
    private mutating func number() throws(JSONFault) {
        let start = index
        if current == UInt8(ascii: "-") { index &+= 1 }
        // The power of ten of the first digit that is not zero, before the exponent; nil as long as all are zero.
        var magnitude: Int?
        if current == UInt8(ascii: "0") {
            index &+= 1
        } else {
            magnitude = try digits() &- 1
        }
        if current == UInt8(ascii: ".") {
            index &+= 1
            let fraction = index
            let length = try digits()
            if magnitude == nil {
                magnitude = (0..<length).first { base[fraction &+ $0] != UInt8(ascii: "0") }.map { -1 &- $0 }
            }
        }
        var exponent = 0
        if current | 0x20 == UInt8(ascii: "e") {
            index &+= 1
            let isNegative = current == UInt8(ascii: "-")
            if isNegative || current == UInt8(ascii: "+") { index &+= 1 }
            let first = index
            let length = try digits()
            for offset in 0..<length where exponent < 1_000_000 {
                exponent = exponent &* 10 &+ Int(base[first &+ offset] &- UInt8(ascii: "0"))
            }
            if isNegative { exponent = -exponent }
        }
        guard let magnitude else { return }
        switch magnitude &+ exponent {
        case ..<308: return
        case 308:
            let text = String(decoding: UnsafeBufferPointer(start: base + start, count: index &- start), as: UTF8.self)
            guard let double = Double(text), double.isFinite else { throw fault(.numberOutOfRange) }
        default: throw fault(.numberOutOfRange)
        }
    }

    @inline(__always)
    private func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") < 10 }
}

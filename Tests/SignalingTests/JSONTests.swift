import Foundation
import Testing

@testable import Signaling

@Suite struct JSONTests {
    @Test(arguments: [
        "{}", #"{"a":1}"#, #" { "a" : [ 1 , -0 , 0.5 , 1e2 , 1E-400 , 18446744073709551616 , true , false , null ] } "#,
        #"{"":""}"#, #"{"a":"\"\\\/\b\f\n\r\t\u0000\ud83d\ude00é漢😀"}"#, #"{"a":{"a":{"a":{}}}}"#, "{\"\u{7F}\":1}",
        #"{"a":1.7976931348623157e308}"#, #"{"a":0e99999}"#, #"{"a":0.000e400}"#, #"{"a":100000e303}"#,
    ])
    func whatIsJSONIsTaken(text: String) {
        #expect(JSONTests.fault(Array(text.utf8)) == nil)
    }

    @Test(arguments: refused)
    func sg08WhatIsNotIsRefused(text: String, reason: JSONFault.Reason) {
        #expect(JSONTests.fault(Array(text.utf8))?.reason == reason)
    }

    private static let refused: [(String, JSONFault.Reason)] = [
        ("", .syntax), ("[]", .syntax), ("1", .syntax), ("{", .syntax), (#"{"a"}"#, .syntax), (#"{"a":}"#, .syntax),
        (#"{"a":1,}"#, .syntax), (#"{a:1}"#, .syntax), (#"{'a':1}"#, .syntax), (#"{"a":01}"#, .syntax),
        (#"{"a":+1}"#, .syntax), (#"{"a":1.}"#, .syntax), (#"{"a":.5}"#, .syntax), (#"{"a":1e}"#, .syntax),
        (#"{"a":-}"#, .syntax), (#"{"a":NaN}"#, .syntax), (#"{"a":Infinity}"#, .syntax), (#"{"a":tru}"#, .syntax),
        (#"{"a":"\x"}"#, .syntax), (#"{"a":"\u12g4"}"#, .syntax), (#"{"a":"\u12"#, .syntax),
        ("{\"a\":\"\n\"}", .syntax),
        (#"{"a":[1,]}"#, .syntax), (#"{"a":[1 2]}"#, .syntax), (#"{"a":1 "b":2}"#, .syntax),
        ("{\"a\":1\u{0}}", .syntax),
        ("\u{FEFF}{}", .syntax), (#"{"a":/**/1}"#, .syntax), ("{}{}", .trailingBytes), ("{} x", .trailingBytes),
        ("{}\u{0}", .trailingBytes), (#"{"a":1e309}"#, .numberOutOfRange), (#"{"a":-1e400}"#, .numberOutOfRange),
        (#"{"a":1.8e308}"#, .numberOutOfRange), (#"{"a":1e99999999999999999999}"#, .numberOutOfRange),
        (#"{"a":0.001e312}"#, .numberOutOfRange), (#"{"a":1,"a":2}"#, .duplicateKey),
        (#"{"a":1,"\u0061":2}"#, .duplicateKey), (#"{"b":{"é":1,"\u00e9":2}}"#, .duplicateKey),
        (#"{"a":"\ud800"}"#, .loneSurrogate), (#"{"a":"\udc00"}"#, .loneSurrogate),
        (#"{"a":"\ud800\ud800"}"#, .loneSurrogate), (#"{"a":"\ud83dx"}"#, .loneSurrogate),
        (#"{"\udfff":1}"#, .loneSurrogate),
    ]

    /// Case WS-10: truncated, overlong, surrogates, beyond the last scalar.
    @Test(
        arguments: [
            [0x80], [0xC3], [0xC0, 0xAF], [0xC1, 0xBF], [0xE0, 0x9F, 0xBF], [0xED, 0xA0, 0x80],
            [0xF0, 0x8F, 0xBF, 0xBF],
            [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xE2, 0x82], [0xF0, 0x9F, 0x98], [0xFF], [0xC3, 0x28],
        ] as [[UInt8]]
    )
    func sg08WhatIsNotUTF8IsRefused(bytes: [UInt8]) {
        for padding in 0..<9 {
            let text = Array(#"{"a":""#.utf8) + Array(repeating: 0x78, count: padding) + bytes + Array(#""}"#.utf8)
            #expect(JSONTests.fault(text)?.reason == .encoding)
        }
    }

    @Test func sg08DepthIsBoundedBeforeAnythingRecurses() {
        for depth in [100, 100_000, 1_000_000] {
            let arrays = #"{"a":"# + String(repeating: "[", count: depth)
            #expect(JSONTests.fault(Array(arrays.utf8))?.reason == .tooDeep)
            let objects = String(repeating: #"{"a":"#, count: depth)
            #expect(JSONTests.fault(Array(objects.utf8))?.reason == .tooDeep)
        }
        let deepest = String(repeating: #"{"a":"#, count: 32) + "1" + String(repeating: "}", count: 32)
        #expect(JSONTests.fault(Array(deepest.utf8)) == nil)
        #expect(JSONTests.fault(Array((#"{"a":"# + deepest + "}").utf8))?.reason == .tooDeep)
    }

    @Test func sg08MembersAndValuesAreCounted() {
        func object(_ count: Int) -> [UInt8] {
            Array(("{" + (0..<count).map { #""k\#($0)":0"# }.joined(separator: ",") + "}").utf8)
        }
        #expect(JSONTests.fault(object(1_024)) == nil)
        #expect(JSONTests.fault(object(1_025))?.reason == .tooManyMembers)
        func list(_ count: Int) -> [UInt8] {
            Array((#"{"a":["# + Array(repeating: "0", count: count).joined(separator: ",") + "]}").utf8)
        }
        #expect(JSONTests.fault(list(16_383)) == nil)
        #expect(JSONTests.fault(list(16_384))?.reason == .tooManyValues)
    }

    @Test func sg08AHubSurvivesAllOfIt() throws {
        let lab = Lab()
        let alice = try lab.peer("alice")
        let bob = try lab.peer("bob")
        for text in [
            "{", #"{"type":"signal","to":"bob","signal":1e400}"#, #"{"type":"ping","type":"ping"}"#, "\u{FEFF}{}",
        ] {
            alice.send(text)
            #expect(alice.refusal()?.hasPrefix("bad-message: The message ") == true)
        }
        alice.send(bytes: Array(repeating: 0x5B, count: 60_000))
        #expect(alice.refusal() == "bad-message: The message is not JSON (byte 0)")
        alice.send(#"{"type":"signal","to":"bob","signal":18446744073709551616}"#)
        #expect(bob.take("signal") != nil)
        while alice.closedWith == nil { alice.send("{") }
        #expect(alice.closedWith == .policy)
    }

    @Test func everyFieldAndEveryTypeHasItsPlace() throws {
        var counters = HubCounters()
        for kind in MessageKind.allCases { counters.count(kind) }
        for reason in RejectionReason.allCases { counters.count(reason) }
        #expect(MessageKind.allCases.allSatisfy { counters[$0] == 1 })
        #expect(RejectionReason.allCases.allSatisfy { counters[$0] == 1 })
        let members = Field.allCases.map { "\"\($0.name)\":\($0.rawValue)" }.joined(separator: ",")
        var scratch: [JSONKey] = []
        try Array("{\(members)}".utf8).withUnsafeBufferPointer { text in
            let message = try Message.decode(text, scratch: &scratch)
            for field in Field.allCases { #expect(try message.wholeNumber(field) == UInt64(field.rawValue)) }
        }
    }

    @Test(
        arguments: [
            ("0", 0), ("-0", 0), ("1e3", 1_000), ("2.50e1", 25), ("18446744073709551615", .max), ("1e300", .max),
            ("18446744073709551616", .max), ("1.5", nil), ("-1", nil), ("1e-400", 0), ("\"1\"", nil), ("true", nil),
        ] as [(String, UInt64?)]
    )
    func aWholeNumberIsReadWithoutATrap(text: String, number: UInt64?) throws {
        var scratch: [JSONKey] = []
        let read = try Array("{\"ttl\":\(text)}".utf8).withUnsafeBufferPointer { bytes in
            let message = try Message.decode(bytes, scratch: &scratch)
            return try? message.wholeNumber(.ttl)
        }
        #expect(read == number)
    }

    @Test func keysMayBeWrittenWithEscapes() throws {
        let alice = try Lab().peer("alice")
        alice.send(#"{"\u0074ype":"\u0070ing","i\u0064":"x"}"#)
        #expect(alice.take("pong")?["id"] as? String == "x")
    }

    /// Against Foundation: whatever we take it takes, with the same meaning, and the payload that is sent on is the one
    /// that came.
    @Test(arguments: 0..<6)
    func whatIsTakenMeansTheSameToFoundation(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var accepted = 0
        for round in 0..<2_000 {
            var text = Array(#"{"type":"signal","to":"bob","signal":"#.utf8)
            let start = text.count
            JSONTests.write(depth: 0, to: &text, &generator)
            let end = text.count
            text += Array("}".utf8)
            let mutations = round % 3 == 0 ? 0 : Int.random(in: 1...3, using: &generator)
            for _ in 0..<mutations { JSONTests.mutate(&text, &generator) }
            let foundation = try? JSONSerialization.jsonObject(with: Data(text)) as? [String: Any]
            var scratch: [JSONKey] = []
            let fault: JSONFault? = text.withUnsafeBufferPointer { text in
                do throws(JSONFault) {
                    let message = try Message.decode(text, scratch: &scratch)
                    #expect(foundation != nil, "seed \(seed), round \(round): \(String(decoding: text, as: UTF8.self))")
                    let raw = Array(message.raw(.signal))
                    if mutations == 0 { #expect(raw == trimmed(text[start..<end]) || raw.isEmpty) }
                    if !raw.isEmpty {
                        let value = try? JSONSerialization.jsonObject(with: Data(raw), options: .fragmentsAllowed)
                        #expect((value as? NSObject) == (foundation?["signal"] as? NSObject), "seed \(seed), \(round)")
                    }
                    accepted += 1
                    return nil
                } catch { return error }
            }
            if mutations == 0 { #expect(fault == nil, "seed \(seed): \(String(decoding: text, as: UTF8.self))") }
            if let fault { #expect((0...text.count).contains(fault.offset)) }
        }
        #expect(accepted > 600)
    }

    /// Without the blanks around it.
    private func trimmed(_ text: some BidirectionalCollection<UInt8>) -> [UInt8] {
        Array(Array(text.drop { $0 <= 0x20 }.reversed()).drop { $0 <= 0x20 }.reversed())
    }

    static func fault(_ text: [UInt8]) -> JSONFault? {
        var scratch: [JSONKey] = []
        return text.withUnsafeBufferPointer { text in
            do throws(JSONFault) {
                _ = try Message.decode(text, scratch: &scratch)
                return nil
            } catch { return error }
        }
    }

    /// A random value, well-formed, with blanks and escapes where they may stand.
    private static func write(depth: Int, to text: inout [UInt8], _ generator: inout SeededGenerator) {
        func pick(_ choices: [String]) -> [UInt8] { Array((choices.randomElement(using: &generator) ?? "").utf8) }
        let blanks = ["", "", "", " ", "\n\t", "\r "]
        let words = ["x", "sdp", #"\n"#, #"é"#, #"\u00e9"#, #"\ud83d\ude00"#, "漢字", #"\\"#, #"\""#, #"a=b\r\n"#, "/"]
        text += pick(blanks)
        switch Int.random(in: 0..<(depth > 4 ? 5 : 7), using: &generator) {
        case 0: text += pick(["0", "-0", "1", "-1.5", "1e5", "123456789", "0.25E-2", "99999999999999999999"])
        case 1: text += pick(["true", "false"])
        case 2: text += pick(["null"])
        case 3, 4:
            text += pick(["\""])
            for _ in 0..<Int.random(in: 0..<12, using: &generator) { text += pick(words) }
            text += pick(["\""])
        case 5:
            text += pick(["["])
            for index in 0..<Int.random(in: 0..<4, using: &generator) {
                if index > 0 { text += pick([","]) }
                write(depth: depth + 1, to: &text, &generator)
            }
            text += pick(["]"])
        default:
            text += pick(["{"])
            for index in 0..<Int.random(in: 0..<4, using: &generator) {
                if index > 0 { text += pick([","]) }
                text +=
                    pick(blanks) + Array("\"k\(index)".utf8) + pick(words) + pick(["\""]) + pick(blanks) + pick([":"])
                write(depth: depth + 1, to: &text, &generator)
            }
            text += pick(["}"])
        }
        text += pick(blanks)
    }

    private static func mutate(_ text: inout [UInt8], _ generator: inout SeededGenerator) {
        let place = Int.random(in: 0..<text.count, using: &generator)
        let bytes = Array(#"{}[]",:\u0d8e+-.tfn "#.utf8) + [0x00, 0x1F, 0x80, 0xC3, 0xED, 0xF4, 0xFF]
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: text[place] = bytes.randomElement(using: &generator) ?? 0
        case 1: text.insert(bytes.randomElement(using: &generator) ?? 0, at: place)
        case 2: text.remove(at: place)
        default: text[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        }
        if text.isEmpty { text = [0x7B] }
    }
}

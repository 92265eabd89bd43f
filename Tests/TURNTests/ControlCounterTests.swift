import STUN
import TURN
import Testing

/// What is counted outside the packets' way, for the metrics.
@Suite struct ControlCounterTests {
    @Test func aRequestThatWaitsForTheAccountStoreIsCountedOnce() throws {
        let lab = try Lab()
        let client = lab.client()
        #expect(client.allocate()?.error == nil)
        #expect(!lab.lookups.isEmpty)
        let control = lab.engine.counters.control
        // The challenge, and the request that was given twice.
        #expect(control[.allocate, .udp] == 2)
        #expect(control[errorCode: 401] == 1)
        #expect(control[.allocate, .tcp] == 0)
    }

    @Test func failedProofsHaveTheirReasons() throws {
        let lab = try Lab()
        lab.add(user: "disabled", password: "right", isEnabled: false)
        lab.add(user: "expired", password: "right", expiresAtSeconds: lab.moment.wallSeconds)
        for (name, password) in [
            ("alice", "wrong"), ("mallory", "right"), ("disabled", "right"), ("expired", "right"), ("expired", "wrong"),
        ] {
            let client = lab.client(name)
            client.password = password
            #expect(client.allocate()?.error == 401)
        }
        let client = lab.client()
        client.learn(from: lab.client(at: Endpoint("198.51.100.8", 40_000)).challenge())
        #expect(client.allocate()?.error == 438)
        let control = lab.engine.counters.control
        let found = AuthenticationFailure.allCases.map { control[$0] }
        let expected: [AuthenticationFailure: UInt64] = [
            .wrongPassword: 2, .unknownUser: 1, .notAllowed: 1, .expired: 1, .foreignNonce: 1,
        ]
        #expect(found == AuthenticationFailure.allCases.map { expected[$0] ?? 0 })
    }

    @Test func allocationsThatEndAreCountedByHowLongTheyWereThere() throws {
        let lab = try Lab { $0.nonceLifetimeSeconds = 7_200 }
        for seconds in [1, 2, 600, 601] as [UInt64] {
            let client = lab.client()
            #expect(client.allocate(lifetimeSeconds: 3_600)?.error == nil)
            lab.advance(seconds: seconds)
            #expect(client.refresh(0)?.error == nil)
        }
        let control = lab.engine.counters.control
        // A bound is its bucket's own: Prometheus' `le`.
        #expect(control.allocationDurations == [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0])
        #expect(control.allocationDurations.count == ControlCounters.durationBounds.count + 1)
        #expect(control.allocationsEnded == 4)
        #expect(control.allocationSeconds == 1_204)
    }

    @Test func everyErrorThatIsAnsweredHasItsCounter() throws {
        for value in UInt16(300)..<700 where ErrorCode(rawValue: value) != nil {
            #expect(ControlCounters.errorCodes.contains(value), "\(value)")
        }
        var control = ControlCounters()
        // A success, an error cut short, and an error with a code of nobody's.
        for bytes in [
            [1, 1, 0, 0] + [UInt8](repeating: 0, count: 16) + [0, 9, 0, 4, 0, 0, 4, 1],
            [1, 0x11, 0, 0] + [UInt8](repeating: 0, count: 16) + [0, 9, 0, 4, 0, 0, 4],
            [1, 0x11, 0, 0] + [UInt8](repeating: 0, count: 16) + [0, 9, 0, 4, 0xFF, 0xFF, 0xFF, 0xFF],
        ] as [[UInt8]] {
            bytes.withUnsafeBytes { control.count(answer: $0) }
        }
        #expect(ControlCounters.errorCodes.map { control[errorCode: $0] }.reduce(0, +) == 1)
        #expect(control[errorCode: 0] == 1)
        var sum = ControlCounters()
        sum.add(control)
        sum.add(control)
        #expect(sum[errorCode: 0] == 2)
    }
}

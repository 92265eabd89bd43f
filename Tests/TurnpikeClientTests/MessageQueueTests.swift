import Synchronization
import Testing

@testable import TurnpikeClient

@Suite struct MessageQueueTests {
    @Test func messagesComeInOrderAndTheEndBehindThem() async {
        let queue = MessageQueue(onRoom: {})
        for number in 0..<600 { queue.append(Message("\(number)")) }
        queue.finish()
        var number = 0
        for await message in Messages(queue: queue) {
            #expect(message.text == "\(number)")
            number += 1
        }
        #expect(number == 600)
    }

    @Test func aFullQueueSaysSoAndCallsWhenThereIsRoom() async {
        let calls = Atomic(0)
        let queue = MessageQueue { calls.add(1, ordering: .relaxed) }
        let big = Message([UInt8](repeating: 0, count: ClientLimits.inboundBytes / 4))
        var given = 0
        repeat { given += 1 } while queue.append(big)
        #expect(queue.isFull)
        for _ in 0..<given { _ = await queue.next() }
        #expect(!queue.isFull)
        #expect(calls.load(ordering: .relaxed) == 1)
    }

    @Test func aReaderThatIsCancelledGetsNothingAndTakesNothing() async {
        let queue = MessageQueue(onRoom: {})
        let reader = Task { await queue.next() }
        reader.cancel()
        #expect(await reader.value == nil)
        queue.append(Message("kept"))
        #expect(await queue.next()?.text == "kept")
    }
}

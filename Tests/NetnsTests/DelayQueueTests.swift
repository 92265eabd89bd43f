import Lab
import Testing

@testable import Netns

@Suite struct DelayQueueTests {
    @Test func packetsComeOutWhenTheyAreDueAndInOrder() {
        var queue = DelayQueue()
        var dice = Dice(seed: 7)
        var arrivals: [UInt64] = []
        for number in 0..<1_000 {
            let arrival = dice.below(500)
            arrivals.append(arrival)
            queue.room?.storeBytes(of: number, as: Int.self)
            queue.push(count: 8, arrival: arrival)
        }
        var previous: (arrival: UInt64, number: Int) = (0, -1)
        for now in UInt64(0)..<500 {
            while let packet = queue.pop(now: now) {
                let number = packet.bytes.load(as: Int.self)
                #expect(packet.arrival == now && arrivals[number] == now && packet.count == 8)
                if previous.arrival == now { #expect(number > previous.number) }
                previous = (now, number)
            }
        }
        #expect(queue.count == 0)
    }

    @Test func aFullQueueHasNoRoomUntilAPacketLeaves() {
        var queue = DelayQueue()
        for _ in 0..<DelayQueue.capacity { queue.push(count: 1, arrival: 5) }
        #expect(queue.room == nil && queue.count == DelayQueue.capacity)
        #expect(queue.pop(now: 4) == nil && queue.pop(now: 5) != nil)
        #expect(queue.room != nil)
    }
}

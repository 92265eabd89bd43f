import LinuxIO
import STUN
import TURN

/// Data on its way to peers, gathered over one batch and sent with one call for each relay socket. Entries of one
/// socket are chained, in the order they came.
struct PeerOutbox: ~Copyable {
    private struct Entry: BitwiseCopyable {
        var start: UnsafeRawPointer
        var length: Int
        var destination: Endpoint
        /// The next entry of the socket plus one; 0 at the end.
        var next: UInt32
    }

    private struct Chain: BitwiseCopyable {
        /// Entries plus one; 0 when there is none.
        var first: UInt32
        var last: UInt32
    }

    private let entries: UnsafeMutablePointer<Entry>
    private var entryCount = 0
    /// By descriptor. Address space for as many as the process may open; memory for those it has.
    private let chains: UnsafeMutablePointer<Chain>
    private let chainMemory: LazyMemory
    private let chainCount: Int
    private let touched: UnsafeMutablePointer<Int32>
    private var touchedCount = 0
    private var batch: SendBatch
    private let address: UnsafeMutablePointer<SocketAddressStorage>
    private var allowsSegments: Bool
    /// Why datagrams of the last call were dropped, 0 when none were.
    private(set) var lastErrno: Int32 = 0

    /// As many datagrams as a batch from clients can hold: 64 slots of up to 64 merged ones.
    private static let entriesMax = 4_096

    init() throws(SystemCallError) {
        let chainCount = min(max(try Host.raiseDescriptorLimit(), 1_024), 1 << 22)
        let chainMemory = try LazyMemory(byteCount: chainCount * MemoryLayout<Chain>.stride)
        self.chainCount = chainCount
        // Zero bytes are empty chains.
        chains = chainMemory.base.bindMemory(to: Chain.self, capacity: chainCount)
        self.chainMemory = chainMemory
        entries = .allocate(capacity: Self.entriesMax)
        touched = .allocate(capacity: Self.entriesMax)
        batch = SendBatch(messageCapacity: 256, vectorCapacity: Self.entriesMax)
        address = .allocate(capacity: 1)
        address.initialize(to: SocketAddressStorage(high: 0, low: 0, isIPv4: true, port: 0))
        allowsSegments = UDPSocket.isSegmentationSupported()
    }

    deinit {
        entries.deallocate()
        touched.deallocate()
        address.deallocate()
    }

    @inline(__always)
    var isFull: Bool { entryCount == Self.entriesMax }

    @inline(__always)
    var hasEntries: Bool { entryCount > 0 }

    /// Adds bytes that stay where they are until `flush`. The caller has looked at `isFull`.
    @inline(__always)
    mutating func append(_ forward: Forward, _ start: UnsafeRawPointer) {
        guard forward.descriptor >= 0, Int(forward.descriptor) < chainCount else { return }
        entries[entryCount] = Entry(
            start: start,
            length: forward.length,
            destination: forward.destination,
            next: 0
        )
        entryCount &+= 1
        let number = UInt32(truncatingIfNeeded: entryCount)
        let chain = chains + Int(forward.descriptor)
        if chain.pointee.first == 0 {
            chain.pointee.first = number
            touched[touchedCount] = forward.descriptor
            touchedCount &+= 1
        } else {
            entries[Int(chain.pointee.last) &- 1].next = number
        }
        chain.pointee.last = number
    }

    mutating func flush(_ counters: inout Counters) {
        var index = 0
        while index < touchedCount {
            send(touched[index], &counters)
            index &+= 1
        }
        touchedCount = 0
        entryCount = 0
    }

    private mutating func send(_ descriptor: Int32, _ counters: inout Counters) {
        let chain = chains + Int(descriptor)
        var number = chain.pointee.first
        chain.pointee.first = 0
        var destination: Endpoint?
        var flowKey: UInt64 = 0
        var bytes = 0
        while number != 0 {
            let entry = entries + (Int(number) &- 1)
            if destination != entry.pointee.destination {
                destination = entry.pointee.destination
                address.pointee = entry.pointee.destination.storage
                flowKey &+= 1
            }
            while !batch.addRun(
                to: address,
                source: .unspecified,
                header: nil,
                headerLength: 0,
                payload: entry.pointee.start,
                length: entry.pointee.length,
                flowKey: flowKey,
                allowSegments: allowsSegments
            ) {
                deliver(descriptor, bytes, &counters)
                bytes = 0
            }
            bytes &+= entry.pointee.length
            number = entry.pointee.next
        }
        deliver(descriptor, bytes, &counters)
    }

    private mutating func deliver(_ descriptor: Int32, _ bytes: Int, _ counters: inout Counters) {
        let result = batch.flush(fd: descriptor, hasErrorQueue: true)
        lastErrno = result.lastErrno
        // EIO: the device does not cut segments; it is asked no more. Other refusals are about one destination.
        if result.refusalErrno == Errno.inputOutput { allowsSegments = false }
        counters.packetsToPeers &+= UInt64(truncatingIfNeeded: result.sent)
        counters.bytesToPeers &+= UInt64(truncatingIfNeeded: bytes)
        counters.drop(.sendQueueFull, UInt64(truncatingIfNeeded: result.droppedBusy))
        counters.drop(.sendFailed, UInt64(truncatingIfNeeded: result.droppedError))
    }
}

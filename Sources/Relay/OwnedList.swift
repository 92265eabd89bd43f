/// A few values that cannot be copied, on their way to their owner.
struct OwnedList<Element: ~Copyable>: ~Copyable {
    private(set) var count = 0
    private let elements: UnsafeMutablePointer<Element>
    private let capacity: Int

    init(capacity: Int) {
        self.capacity = capacity
        elements = .allocate(capacity: max(capacity, 1))
    }

    /// Beyond the capacity, the value is dropped.
    mutating func append(_ element: consuming Element) {
        guard count < capacity else { return }
        (elements + count).initialize(to: element)
        count += 1
    }

    /// Must be below `count`.
    func pointer(_ index: Int) -> UnsafeMutablePointer<Element> { elements + index }

    /// Gives the values away, to be deinitialized and deallocated by who takes them.
    consuming func release() -> UnsafeMutablePointer<Element> {
        let elements = elements
        discard self
        return elements
    }

    deinit {
        elements.deinitialize(count: count)
        elements.deallocate()
    }
}

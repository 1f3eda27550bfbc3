//! A queue that is bounded by bytes and gives up its oldest entries.

use std::collections::VecDeque;

/// Counted for each entry beside its bytes, so that many small ones are bounded as well.
pub const ENTRY_COST_BYTES: usize = 64;

/// A queue of entries with their sizes. One entry fits whatever its size.
#[derive(Debug)]
pub struct LossyQueue<T> {
    entries: VecDeque<(T, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl<T> LossyQueue<T> {
    /// An empty queue of so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Puts an entry of so many bytes at the end. What had to make room for it comes back, oldest
    /// first.
    pub fn push(&mut self, entry: T, bytes: usize) -> Vec<T> {
        let bytes = bytes + ENTRY_COST_BYTES;
        self.entries.push_back((entry, bytes));
        self.bytes += bytes;
        let mut lost = Vec::new();
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            lost.extend(self.pop());
        }
        lost
    }

    /// Takes the oldest entry.
    pub fn pop(&mut self) -> Option<T> {
        let (entry, bytes) = self.entries.pop_front()?;
        self.bytes -= bytes;
        if self.entries.is_empty() {
            // A burst must not hold memory for ever.
            self.entries = VecDeque::new();
        }
        Some(entry)
    }

    /// Drops the entries that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(&T) -> bool) {
        self.entries.retain(|(entry, _)| wanted(entry));
        self.bytes = self.entries.iter().map(|(_, bytes)| bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [i32; 0] = [];

    #[test]
    fn the_oldest_make_room_and_one_entry_always_fits() {
        let mut queue = LossyQueue::new(2 * (ENTRY_COST_BYTES + 10));
        assert_eq!(queue.push(1, 10), NONE);
        assert_eq!(queue.push(2, 10), NONE);
        assert_eq!(queue.push(3, 11), [1, 2]);
        assert_eq!(queue.push(4, 1_000_000), [3]);
        assert_eq!(queue.push(5, 1), [4]);
        assert_eq!((queue.pop(), queue.pop()), (Some(5), None));
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn what_is_not_wanted_makes_room() {
        let mut queue = LossyQueue::new(3 * ENTRY_COST_BYTES);
        (0..3).for_each(|n| assert_eq!(queue.push(n, 0), NONE));
        queue.retain(|n| *n != 1);
        assert_eq!(queue.push(3, 0), NONE);
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), [0, 2, 3]);
    }
}

//! A counter of taken things. The scheduler adds and subtracts nowhere else.

/// A number of things of which some are taken. The number taken is always between 0 and the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    taken: usize,
    most: usize,
}

impl Count {
    /// A counter with all things free.
    pub(super) const fn of(most: usize) -> Self {
        Self { taken: 0, most }
    }

    pub(super) const fn taken(self) -> usize {
        self.taken
    }

    pub(super) const fn free(self) -> usize {
        self.most.saturating_sub(self.taken)
    }

    /// Takes one. Returns `false` if none is free.
    #[must_use]
    pub(super) fn take(&mut self) -> bool {
        match self.taken.checked_add(1) {
            Some(taken) if taken <= self.most => {
                self.taken = taken;
                true
            }
            _ => false,
        }
    }

    /// Puts one back. Returns `false` if none was taken.
    #[must_use]
    pub(super) fn put_back(&mut self) -> bool {
        match self.taken.checked_sub(1) {
            Some(taken) => {
                self.taken = taken;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_that_is_not_there_and_nothing_put_back_twice() {
        let mut count = Count::of(2);
        assert!(count.take() && count.take() && !count.take());
        assert_eq!((count.taken(), count.free()), (2, 0));
        assert!(count.put_back() && count.put_back() && !count.put_back());
        assert_eq!(count, Count::of(2));
        assert!(!Count::of(0).take());
    }
}

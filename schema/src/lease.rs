//! Who owns a sector, as a fold of the sector's log.
//!
//! The server's compare-and-set stops a stale writer early, but its headers are voluntary. Whether an event counts is
//! therefore decided here, from the log's prefix alone, and every reader of the log comes to the same answer.

use crate::{
    id::{Token, WorkerName},
    transition::Transition,
};

/// Who owns a sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Nobody; a claim must expect `last_lease`.
    Free {
        /// The sequence of the last lease record, 0 if there is none.
        last_lease: u64,
    },
    /// A worker, until a later lease record says otherwise. No clock ends it.
    Held {
        /// The owner.
        worker: WorkerName,
        /// The number of its right.
        token: Token,
        /// The highest event number accepted under this token.
        last_event: u64,
    },
}

/// A record of the sector's log, as far as ownership goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// `lease.<worker>` at a stream sequence.
    Claim {
        /// Who claims.
        worker: &'a WorkerName,
        /// Where it stands in the stream.
        sequence: u64,
    },
    /// `lease.-` at a stream sequence.
    Release {
        /// Where it stands in the stream.
        sequence: u64,
    },
    /// `ev.<worker>`.
    Event {
        /// Who reports.
        worker: &'a WorkerName,
        /// The token it reports under.
        token: Token,
        /// Its number under that token, from 1.
        number: u64,
    },
}

impl Ownership {
    /// The sequence of the last lease record: what the next lease record must expect.
    pub fn last_lease(&self) -> u64 {
        match self {
            Ownership::Free { last_lease } => *last_lease,
            Ownership::Held { token, .. } => token.0,
        }
    }

    /// Folds one record. `Advance` means that it counts; an event that is ignored or illegal has no effect at all.
    pub fn fold(&self, record: &Record<'_>) -> Transition<Ownership, std::convert::Infallible> {
        match (self, record) {
            (_, Record::Claim { sequence, .. } | Record::Release { sequence }) if *sequence <= self.last_lease() => {
                Transition::Illegal("a lease record older than the last one")
            }
            (_, Record::Claim { worker, sequence }) => {
                Transition::to(Ownership::Held { worker: (*worker).clone(), token: Token(*sequence), last_event: 0 })
            }
            (_, Record::Release { sequence }) => Transition::to(Ownership::Free { last_lease: *sequence }),
            (Ownership::Held { worker, token, last_event }, Record::Event { worker: w, token: t, number })
                if worker == *w && token == t =>
            {
                if number > last_event {
                    Transition::to(Ownership::Held { worker: worker.clone(), token: *token, last_event: *number })
                } else {
                    Transition::Ignore("an event that was already folded")
                }
            }
            (_, Record::Event { .. }) => Transition::Illegal("an event of somebody who does not own the sector"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> WorkerName {
        text.parse().expect("worker name")
    }

    #[test]
    fn an_event_counts_once_and_only_under_the_current_token() {
        let (a, b) = (name("a"), name("b"));
        let free = Ownership::Free { last_lease: 0 };
        let Transition::Advance { next: held, .. } = free.fold(&Record::Claim { worker: &a, sequence: 5 }) else {
            panic!("a claim counts");
        };
        let event = |worker, token, number| Record::Event { worker, token: Token(token), number };
        let Transition::Advance { next: held, .. } = held.fold(&event(&a, 5, 1)) else { panic!("the owner's event") };
        assert!(matches!(held.fold(&event(&a, 5, 1)), Transition::Ignore(_)), "the same again");
        assert!(matches!(held.fold(&event(&b, 5, 2)), Transition::Illegal(_)), "somebody else with the token");
        assert!(matches!(held.fold(&event(&a, 4, 2)), Transition::Illegal(_)), "an older token");
        let Transition::Advance { next: free, .. } = held.fold(&Record::Release { sequence: 9 }) else {
            panic!("a release counts");
        };
        assert_eq!(free, Ownership::Free { last_lease: 9 });
        assert!(matches!(free.fold(&event(&a, 5, 2)), Transition::Illegal(_)), "after the release");
        assert!(matches!(free.fold(&Record::Claim { worker: &b, sequence: 9 }), Transition::Illegal(_)));
    }

    proptest! {
        #[test]
        fn over_any_log_tokens_rise_and_no_event_counts_twice(records in prop::collection::vec((0..3u8, 0..2u8, 0..8u64, 0..4u64), 0..60)) {
            let workers = [name("a"), name("b")];
            let mut state = Ownership::Free { last_lease: 0 };
            let mut seen = std::collections::HashSet::new();
            let mut highest = 0;
            for (sequence, (kind, worker, token, number)) in records.into_iter().enumerate() {
                let sequence = sequence as u64 + 1;
                let worker = &workers[worker as usize];
                let record = match kind {
                    0 => Record::Claim { worker, sequence },
                    1 => Record::Release { sequence },
                    _ => Record::Event { worker, token: Token(token), number },
                };
                let owner_before = state.clone();
                if let Transition::Advance { next, .. } = state.fold(&record) {
                    if let Record::Event { worker, token, number } = record {
                        let owned = matches!(&owner_before, Ownership::Held { worker: w, token: t, .. } if w == worker && *t == token);
                        prop_assert!(owned, "accepted from a stranger");
                        prop_assert!(seen.insert((token, number)), "accepted twice");
                    }
                    prop_assert!(next.last_lease() >= highest);
                    highest = next.last_lease();
                    state = next;
                }
            }
        }
    }
}

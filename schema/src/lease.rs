//! Who owns a sector, as a fold of the sector's log.
//!
//! The server's compare-and-set stops a stale writer early, but a writer can omit the headers for it. So this fold
//! decides whether an event or a claim counts, from the log's prefix and from what the manager offered, and every
//! reader of the log reaches the same result. How a worker interprets the log is in [`standing`].
//!
//! A lease record that does not count still moves the server's fence. So the manager must answer each of them with a
//! record, the [`Remedy`], after which the owner can write again.

mod standing;

use crate::{
    id::{Token, WorkerName},
    transition::Transition,
};

pub use standing::{Lease, Right, Standing, standing};

/// Who owns a sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Nobody. A claim must expect `last_lease`.
    Free {
        /// The sequence of the last lease record; 0 if there is no record.
        last_lease: u64,
    },
    /// A worker, until the manager ends it. No clock and no other worker can.
    Held {
        /// The owner.
        worker: WorkerName,
        /// The sequence of the granted claim.
        token: Token,
        /// The identity of the token's stream, if that stream was lost.
        stream: Option<String>,
        /// The sequence of the last lease record. It differs from the token after a claim that did not count.
        last_lease: u64,
        /// The highest event number accepted under this token.
        last_event: u64,
    },
}

/// The parts of a log record that matter for ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// `lease.<worker>` at a stream sequence.
    Claim {
        /// The claiming worker.
        worker: &'a WorkerName,
        /// Its sequence in the stream.
        sequence: u64,
        /// Whether it matches what the manager offers.
        granted: bool,
    },
    /// A release (`lease.-`): nobody owns the sector.
    Release {
        /// Its sequence in the stream.
        sequence: u64,
    },
    /// A reinstatement (`lease.-`): the owner still owns the sector.
    Reinstated {
        /// The owner.
        worker: &'a WorkerName,
        /// Its token.
        token: Token,
        /// Its sequence in the stream.
        sequence: u64,
    },
    /// `ev.<worker>`.
    Event {
        /// The reporting worker.
        worker: &'a WorkerName,
        /// The token it reports under.
        token: Token,
        /// Its number under that token, from 1.
        number: u64,
    },
}

/// The record with which the manager must follow a lease record that did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Name the owner again.
    Reinstate,
    /// Record again that there is no owner.
    Release,
}

impl Ownership {
    /// Owned by a worker, through a claim at this sequence.
    pub const fn claimed(worker: WorkerName, token: Token) -> Ownership {
        Ownership::Held { worker, token, stream: None, last_lease: token.0, last_event: 0 }
    }

    /// The sequence of the last lease record, which everything written to the log must expect.
    pub const fn last_lease(&self) -> u64 {
        match self {
            Ownership::Free { last_lease } | Ownership::Held { last_lease, .. } => *last_lease,
        }
    }

    /// A number that identifies the present lease as long as it lasts: its token, or the last lease record if nobody
    /// owns the sector.
    pub const fn lease(&self) -> u64 {
        match self {
            Ownership::Free { last_lease } => *last_lease,
            Ownership::Held { token, .. } => token.0,
        }
    }

    /// Folds one record. `Advance` means that it counts, or that it has moved the server's fence and needs a remedy. An
    /// ignored or illegal event has no effect at all.
    pub fn fold(&self, record: &Record<'_>) -> Transition<Ownership, Remedy> {
        match (self, record) {
            (
                _,
                Record::Claim { sequence, .. } | Record::Release { sequence } | Record::Reinstated { sequence, .. },
            ) if *sequence <= self.last_lease() => Transition::Illegal("a lease record older than the last one"),
            (Ownership::Free { .. }, Record::Claim { worker, sequence, granted: true }) => {
                Transition::to(Ownership::claimed((*worker).clone(), Token(*sequence)))
            }
            // The claim was not granted: ownership is unchanged, but the server's fence has moved to the claim.
            (_, Record::Claim { sequence, .. }) => self.overtaken(*sequence),
            (_, Record::Release { sequence }) => Transition::to(Ownership::Free { last_lease: *sequence }),
            (Ownership::Held { worker, token, .. }, Record::Reinstated { worker: w, token: t, sequence })
                if worker == *w && token == t =>
            {
                Transition::to(self.moved(*sequence))
            }
            // It does not name the present lease, so it changes no owner.
            (_, Record::Reinstated { sequence, .. }) => self.overtaken(*sequence),
            (Ownership::Held { worker, token, last_event, .. }, Record::Event { worker: w, token: t, number })
                if worker == *w && token == t =>
            {
                if number <= last_event {
                    return Transition::Ignore("an event that was already folded");
                }
                let mut next = self.clone();
                if let Ownership::Held { last_event, .. } = &mut next {
                    *last_event = *number;
                }
                Transition::to(next)
            }
            (_, Record::Event { .. }) => Transition::Illegal("an event of somebody who does not own the sector"),
        }
    }

    /// The same owner, after a record that did not count.
    fn overtaken(&self, sequence: u64) -> Transition<Ownership, Remedy> {
        let remedy = match self {
            Ownership::Free { .. } => Remedy::Release,
            Ownership::Held { .. } => Remedy::Reinstate,
        };
        Transition::with(self.moved(sequence), [remedy])
    }

    fn moved(&self, sequence: u64) -> Ownership {
        let mut next = self.clone();
        match &mut next {
            Ownership::Free { last_lease } | Ownership::Held { last_lease, .. } => *last_lease = sequence,
        }
        next
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
        let Transition::Advance { next: held, .. } =
            free.fold(&Record::Claim { worker: &a, sequence: 5, granted: true })
        else {
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
        assert!(matches!(free.fold(&Record::Claim { worker: &b, sequence: 9, granted: true }), Transition::Illegal(_)));
    }

    #[test]
    fn a_claim_without_a_grant_changes_no_owner_and_owes_a_remedy() {
        let (a, b) = (name("a"), name("b"));
        let held = Ownership::claimed(a.clone(), Token(5));
        for granted in [false, true] {
            let Transition::Advance { next, effects } = held.fold(&Record::Claim { worker: &b, sequence: 7, granted })
            else {
                panic!("the fence has moved");
            };
            assert_eq!((next.lease(), next.last_lease(), effects), (5, 7, vec![Remedy::Reinstate]));
            let event = Record::Event { worker: &a, token: Token(5), number: 1 };
            assert!(matches!(next.fold(&event), Transition::Advance { .. }), "the owner goes on");
            let event = Record::Event { worker: &b, token: Token(7), number: 1 };
            assert!(matches!(next.fold(&event), Transition::Illegal(_)), "nobody else");
            let word = Record::Reinstated { worker: &a, token: Token(5), sequence: 8 };
            let Transition::Advance { next, effects } = next.fold(&word) else { panic!("counts") };
            assert_eq!((next.lease(), next.last_lease(), effects), (5, 8, vec![]));
        }
        let free = Ownership::Free { last_lease: 3 };
        let Transition::Advance { next, effects } =
            free.fold(&Record::Claim { worker: &b, sequence: 4, granted: false })
        else {
            panic!("the fence has moved");
        };
        assert_eq!((next, effects), (Ownership::Free { last_lease: 4 }, vec![Remedy::Release]));
    }

    #[test]
    fn a_record_that_names_another_owner_than_the_fold_knows_owes_a_remedy() {
        let (a, b) = (name("a"), name("b"));
        let held = Ownership::claimed(a, Token(5));
        let Transition::Advance { next, effects } =
            held.fold(&Record::Reinstated { worker: &b, token: Token(2), sequence: 9 })
        else {
            panic!("the fence has moved");
        };
        assert_eq!((next.lease(), next.last_lease(), effects), (5, 9, vec![Remedy::Reinstate]));
    }

    proptest! {
        #[test]
        fn over_any_log_tokens_rise_and_no_event_counts_twice(records in prop::collection::vec((0..5u8, 0..2u8, 0..8u64, 0..4u64), 0..60)) {
            let workers = [name("a"), name("b")];
            let mut state = Ownership::Free { last_lease: 0 };
            let mut seen = std::collections::HashSet::new();
            let mut highest = 0;
            for (sequence, (kind, worker, token, number)) in records.into_iter().enumerate() {
                let sequence = sequence as u64 + 1;
                let worker = &workers[worker as usize];
                let record = match kind {
                    0 | 1 => Record::Claim { worker, sequence, granted: kind == 0 },
                    2 => Record::Release { sequence },
                    3 => Record::Reinstated { worker, token: Token(token), sequence },
                    _ => Record::Event { worker, token: Token(token), number },
                };
                let owner_before = state.clone();
                if let Transition::Advance { next, .. } = state.fold(&record) {
                    if let Record::Event { worker, token, number } = record {
                        let owned = matches!(&owner_before, Ownership::Held { worker: w, token: t, .. } if w == worker && *t == token);
                        prop_assert!(owned, "accepted from a stranger");
                        prop_assert!(seen.insert((token, number)), "accepted twice");
                    }
                    let ended = matches!(record, Record::Release { .. });
                    if let (Ownership::Held { worker: was, .. }, false) = (&owner_before, ended) {
                        let kept = matches!(&next, Ownership::Held { worker, .. } if worker == was)
                            && next.lease() == owner_before.lease();
                        prop_assert!(kept, "an owner lost its sector without a word of the manager");
                    }
                    prop_assert!(next.last_lease() >= highest);
                    highest = next.last_lease();
                    state = next;
                }
            }
        }
    }
}

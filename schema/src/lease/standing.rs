//! What the log says about the lease that a worker has in its journal.
//!
//! Only the manager ends a lease, and only it may write `lease.-`. So another worker's claim after ours proves nothing
//! by itself. If the manager granted it, it had taken the sector from us before; if not, it will say so.

use crate::{
    id::{Token, WorkerName},
    message::LeaseRecord,
};

/// A lease record of a sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its sequence.
    pub sequence: u64,
    /// The claimer, from the record's subject; `None` for the manager's records.
    pub owner: Option<WorkerName>,
    /// The record.
    pub record: LeaseRecord,
}

/// A worker's lease of a sector, as its journal has it.
#[derive(Clone, Copy, Debug)]
pub struct Right<'a> {
    /// The worker.
    pub worker: &'a WorkerName,
    /// The lease's token.
    pub token: Token,
    /// The identity of the token's stream, if that is known to differ from the present stream.
    pub foreign: Option<&'a str>,
}

/// What the log says about a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is valid. Writes under it must expect the record at `fence`.
    Ours {
        /// The sequence of the last lease record.
        fence: u64,
        /// If the manager has reinstated the owner: the number of the last event that the manager knew then.
        known: Option<u64>,
    },
    /// Undecided: the sector was claimed without an offer, or this is a different log, and the manager has not answered
    /// yet. The worker starts nothing under the lease, gives nothing up, and reads the log again.
    Open {
        /// The worker that claimed the sector, if any.
        by: Option<WorkerName>,
    },
    /// The record with this token belongs to another worker: this one was renamed, or got another one's disk.
    /// The worker starts nothing under the lease, gives nothing up, and a person decides.
    Anothers {
        /// The other worker.
        owner: WorkerName,
    },
    /// The manager has ended it.
    Gone,
}

/// What a sector's log says about a lease. `last` is the last lease record, and `word` is the manager's last one.
pub fn standing(right: &Right<'_>, last: Option<&Lease>, word: Option<&Lease>) -> Standing {
    let Some(last) = last else { return Standing::Open { by: None } };
    let claimed = last.owner.as_ref() == Some(right.worker) && last.sequence == right.token.0;
    // The common case: our own claim is still the last lease record.
    if claimed && right.foreign.is_none() {
        return Standing::Ours { fence: last.sequence, known: None };
    }
    // A record of the manager from before our claim was about another lease. But if our token lies beyond the end of
    // this log, it belongs to some other log, and every record here may be newer than it.
    let beyond = right.foreign.is_some() || last.sequence < right.token.0;
    let word = match &last.owner {
        None => Some(last),
        Some(_) => word.filter(|word| beyond || word.sequence > right.token.0),
    };
    let by = last.owner.clone();
    // The record with our token's number is another worker's claim, in the stream that the token belongs to.
    if let Some(owner) = &last.owner
        && last.sequence == right.token.0
        && right.foreign.is_none()
    {
        return Standing::Anothers { owner: owner.clone() };
    }
    match word {
        None => Standing::Open { by },
        Some(Lease { sequence, record: LeaseRecord::Reinstate { worker, token, stream, last_event, .. }, .. })
            if worker == right.worker
                && *token == right.token
                && (right.foreign.is_none() || stream.as_deref() == right.foreign) =>
        {
            // Only if nothing came after the reinstatement do we know which record to expect.
            match *sequence == last.sequence {
                true => Standing::Ours { fence: *sequence, known: Some(*last_event) },
                false => Standing::Open { by },
            }
        }
        Some(Lease { record: LeaseRecord::Reinstate { worker, token, stream, .. }, .. })
            if *token == right.token && (right.foreign.is_none() || stream.as_deref() == right.foreign) =>
        {
            Standing::Anothers { owner: worker.clone() }
        }
        // A log that ends before our token is an older copy of ours: its records about others do not concern us.
        Some(word) if right.foreign.is_none() && word.sequence < right.token.0 => Standing::Open { by },
        Some(_) => Standing::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> WorkerName {
        text.parse().expect("worker name")
    }

    fn lease(sequence: u64, owner: Option<&str>, record: LeaseRecord) -> Lease {
        Lease { sequence, owner: owner.map(name), record }
    }

    fn claim(sequence: u64, owner: &str) -> Lease {
        // The claim's content does not matter: only the manager decides about it.
        lease(sequence, Some(owner), LeaseRecord::Unknown)
    }

    fn release(sequence: u64) -> Lease {
        lease(sequence, None, LeaseRecord::Release { reason: String::new() })
    }

    fn reinstated(sequence: u64, owner: &str, token: u64, stream: Option<&str>) -> Lease {
        let (worker, stream) = (name(owner), stream.map(str::to_owned));
        let record =
            LeaseRecord::Reinstate { worker, token: Token(token), stream, last_event: 3, reason: String::new() };
        lease(sequence, None, record)
    }

    #[test]
    fn a_right_ends_by_the_managers_word_alone() {
        let worker = name("a");
        let ours = |fence, known| Standing::Ours { fence, known };
        let open = |by: &str| Standing::Open { by: Some(name(by)) };
        let cases = [
            (claim(5, "a"), Some(release(4)), ours(5, None)),
            (claim(7, "b"), Some(release(4)), open("b")),
            (claim(7, "a"), None, open("a")),
            (release(7), None, Standing::Gone),
            (claim(8, "b"), Some(release(7)), Standing::Gone),
            (claim(8, "a"), Some(release(7)), Standing::Gone),
            (reinstated(8, "a", 5, None), None, ours(8, Some(3))),
            (reinstated(8, "b", 5, None), None, Standing::Anothers { owner: name("b") }),
            (claim(5, "b"), Some(release(4)), Standing::Anothers { owner: name("b") }),
            (release(4), None, Standing::Open { by: None }),
            (claim(4, "b"), Some(release(3)), open("b")),
            (reinstated(8, "a", 2, None), None, Standing::Gone),
            (claim(9, "b"), Some(reinstated(8, "a", 5, None)), open("b")),
            (claim(9, "b"), Some(reinstated(8, "b", 5, None)), Standing::Anothers { owner: name("b") }),
            (lease(7, None, LeaseRecord::Unknown), None, Standing::Gone),
        ];
        let right = Right { worker: &worker, token: Token(5), foreign: None };
        for (last, word, expected) in cases {
            assert_eq!(standing(&right, Some(&last), word.as_ref()), expected, "{last:?} after {word:?}");
        }
        assert_eq!(standing(&right, None, None), Standing::Open { by: None });
    }

    #[test]
    fn a_token_of_a_lost_stream_counts_only_where_the_manager_names_it_with_that_stream() {
        let worker = name("a");
        let right = Right { worker: &worker, token: Token(5), foreign: Some("old") };
        let of = |last: &Lease, word: Option<&Lease>| standing(&right, Some(last), word);
        assert_eq!(of(&claim(5, "a"), None), Standing::Open { by: Some(name("a")) }, "a claim of the new stream");
        assert_eq!(of(&reinstated(2, "a", 5, Some("old")), None), Standing::Ours { fence: 2, known: Some(3) });
        assert_eq!(of(&reinstated(2, "a", 5, Some("older")), None), Standing::Gone);
        assert_eq!(of(&reinstated(2, "a", 5, None), None), Standing::Gone, "another lease with that number");
        assert_eq!(of(&release(2), None), Standing::Gone);
        assert_eq!(of(&claim(5, "a"), Some(&release(2))), Standing::Gone, "the number is somebody's again");
        let overtaken = of(&claim(5, "b"), Some(&reinstated(2, "a", 5, Some("old"))));
        assert_eq!(overtaken, Standing::Open { by: Some(name("b")) });
    }
}

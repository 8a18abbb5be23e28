//! What happens next with the proof of one partition. Pure.

use std::collections::BTreeSet;

use sealbus_schema::{ErrorReport, ProofBytes, SectorNumber, WorkerName};

use super::{
    proof::{Attempt, PartitionProof, ProofState},
    reads::{Piece, Reads},
    turn::Turn,
};
use crate::chain::types::Epoch;

/// How often a proof is begun for one partition, with the second one of a race.
const ATTEMPTS_MAX: usize = 8;

/// What became of an attempt to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody has reported yet.
    Open,
    /// A worker has a proof, which is not verified yet.
    Claimed {
        /// The worker.
        worker: WorkerName,
        /// The proof.
        proof: ProofBytes,
    },
    /// It failed, or its proof is wrong.
    Failed {
        /// Whose failure it is.
        worker: WorkerName,
        /// Why.
        error: ErrorReport,
    },
}

/// What the manager does next. Several steps may be due at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Offer these reading tasks, unless they are in the queue.
    Read(Vec<Piece>),
    /// Begin an attempt: store it, then offer it.
    Begin(Attempt),
    /// Offer this attempt, unless it is in the queue.
    Offer {
        /// Its number.
        attempt: usize,
    },
    /// Verify what a worker has reported.
    Verify {
        /// The attempt's number.
        attempt: usize,
        /// The worker.
        worker: WorkerName,
        /// Its proof.
        proof: ProofBytes,
    },
    /// Ask for the message.
    Ask,
    /// See whether the chain has the proof.
    Follow,
    /// The turn is over: see what became of it.
    Close,
}

/// The next steps. `outcomes` has one for each attempt of the proof.
pub fn next(proof: &PartitionProof, turn: &Turn, reads: &Reads, outcomes: &[Outcome], head: Epoch) -> Vec<Step> {
    if head >= turn.close {
        return if proof.state.is_open() { vec![Step::Close] } else { Vec::new() };
    }
    match proof.state {
        ProofState::Making => make(turn, reads, outcomes, head),
        // At its first epoch the deadline is not open yet for the estimate of gas, which looks at the head's own epoch.
        ProofState::Proved if head > turn.open => vec![Step::Ask],
        ProofState::Asked => vec![Step::Follow],
        ProofState::Proved | ProofState::Landed | ProofState::Nothing | ProofState::Missed => Vec::new(),
    }
}

fn make(turn: &Turn, reads: &Reads, outcomes: &[Outcome], head: Epoch) -> Vec<Step> {
    let claimed = outcomes.iter().enumerate().find_map(|(attempt, outcome)| match outcome {
        Outcome::Claimed { worker, proof } => {
            Some(Step::Verify { attempt, worker: worker.clone(), proof: proof.clone() })
        }
        _ => None,
    });
    if let Some(verify) = claimed {
        return vec![verify];
    }
    let mut steps = Vec::new();
    let is_settled = reads.is_settled();
    if !is_settled {
        let pieces = reads.pieces(head);
        if !pieces.is_empty() {
            steps.push(Step::Read(pieces));
        }
    }
    let open: Vec<usize> =
        outcomes.iter().enumerate().filter(|(_, o)| matches!(o, Outcome::Open)).map(|(n, _)| n).collect();
    let can_begin = (is_settled || head >= turn.cut()) && outcomes.len() < ATTEMPTS_MAX;
    let wants_another = open.is_empty() || (open.len() == 1 && head >= turn.race());
    match attempt(reads, outcomes) {
        Some(attempt) if can_begin && wants_another => steps.push(Step::Begin(attempt)),
        _ => {}
    }
    steps.extend(open.into_iter().map(|attempt| Step::Offer { attempt }));
    steps
}

/// An attempt with all sectors that were read; `None` if none was. A worker that has failed with a wrong proof leaves it
/// to others.
fn attempt(reads: &Reads, outcomes: &[Outcome]) -> Option<Attempt> {
    let sectors: Vec<_> = reads.read().map(|(sector, by)| (sector.number, by.clone())).collect();
    if sectors.is_empty() {
        return None;
    }
    let failed: BTreeSet<&WorkerName> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Failed { worker, .. } => Some(worker),
            _ => None,
        })
        .collect();
    Some(Attempt { sectors, failed_at: failed.into_iter().cloned().collect() })
}

/// The sectors that an attempt leaves out.
pub fn skipped(reads: &Reads, attempt: &Attempt) -> Vec<SectorNumber> {
    let proven: BTreeSet<SectorNumber> = attempt.sectors.iter().map(|(number, _)| *number).collect();
    reads.sectors().iter().map(|sector| sector.number).filter(|number| !proven.contains(number)).collect()
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{ErrorClass, ErrorCode, MinerId, Randomness};

    use super::*;
    use crate::proving::{
        proof::ProofId,
        reads::tests::{provable, read, worker},
        turn::tests::told,
    };

    fn turn() -> Turn {
        Turn::of(&told(0))
    }

    fn proof(state: ProofState) -> PartitionProof {
        let id = ProofId { miner: MinerId(1000), period: turn().period, deadline: 0, partition: 0 };
        PartitionProof { state, ..PartitionProof::begun(id, &turn(), Randomness([1; 32]), (3, 0)) }
    }

    fn two_of_three() -> Reads {
        let mut reads = Reads::new((0..3).map(|n| provable(n, "a")).collect());
        reads.hear(&worker("w1"), &read(0, &[(0, None), (1, Some(ErrorClass::Temp)), (2, None)]), turn().challenge + 1);
        reads
    }

    fn all_three() -> Reads {
        let mut reads = Reads::new((0..3).map(|n| provable(n, "a")).collect());
        reads.hear(&worker("w1"), &read(0, &[(0, None), (1, None), (2, None)]), turn().challenge + 1);
        reads
    }

    fn failed(by: &str) -> Outcome {
        let error = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOF_INVALID, "bad");
        Outcome::Failed { worker: worker(by), error }
    }

    fn steps(reads: &Reads, outcomes: &[Outcome], head: Epoch) -> Vec<Step> {
        next(&proof(ProofState::Making), &turn(), reads, outcomes, head)
    }

    fn begun(steps: &[Step]) -> Option<(Vec<u64>, Vec<&str>)> {
        steps.iter().find_map(|step| match step {
            Step::Begin(attempt) => Some((
                attempt.sectors.iter().map(|(number, _)| number.0).collect(),
                attempt.failed_at.iter().map(WorkerName::as_str).collect(),
            )),
            _ => None,
        })
    }

    #[test]
    fn proving_begins_when_all_is_read_or_at_the_cut_with_what_is_there() {
        let all = (vec![0, 1, 2], vec![]);
        assert_eq!(begun(&steps(&all_three(), &[], turn().challenge + 2)), Some(all));
        let before = steps(&two_of_three(), &[], turn().cut() - 1);
        assert!(matches!(&before[..], [Step::Read(pieces)] if pieces.len() == 1), "{before:?}");
        let at_cut = steps(&two_of_three(), &[], turn().cut());
        assert_eq!(begun(&at_cut), Some((vec![0, 2], vec![])));
        assert!(matches!(at_cut[0], Step::Read(_)), "what comes later serves another attempt");
    }

    #[test]
    fn nothing_is_begun_without_a_sector() {
        let reads = Reads::new(vec![provable(0, "a")]);
        assert_eq!(begun(&steps(&reads, &[], turn().close - 1)), None);
    }

    #[test]
    fn one_attempt_runs_at_a_time_until_the_race() {
        let reads = all_three();
        assert_eq!(steps(&reads, &[Outcome::Open], turn().race() - 1), [Step::Offer { attempt: 0 }]);
        let racing = steps(&reads, &[Outcome::Open], turn().race());
        assert!(begun(&racing).is_some());
        assert_eq!(begun(&steps(&reads, &[Outcome::Open, Outcome::Open], turn().race() + 5)), None);
    }

    #[test]
    fn a_failed_attempt_is_followed_by_another_and_names_who_failed() {
        let next = steps(&all_three(), &[failed("p1"), failed("p2"), failed("p1")], turn().open);
        assert_eq!(begun(&next), Some((vec![0, 1, 2], vec!["p1", "p2"])));
        let many = vec![failed("p1"); ATTEMPTS_MAX];
        assert_eq!(steps(&all_three(), &many, turn().open), []);
    }

    #[test]
    fn the_first_proof_that_is_reported_is_verified_before_anything_else() {
        let claimed = Outcome::Claimed { worker: worker("p"), proof: ProofBytes(vec![1]) };
        let next = steps(&two_of_three(), &[failed("q"), Outcome::Open, claimed], turn().race());
        let (worker, proof) = (worker("p"), ProofBytes(vec![1]));
        assert_eq!(next, [Step::Verify { attempt: 2, worker, proof }]);
    }

    #[test]
    fn a_proof_is_sent_while_the_deadline_is_open() {
        let step = |state, head| next(&proof(state), &turn(), &all_three(), &[], head);
        assert_eq!(step(ProofState::Proved, turn().open), []);
        assert_eq!(step(ProofState::Proved, turn().open + 1), [Step::Ask]);
        assert_eq!(step(ProofState::Asked, turn().open + 2), [Step::Follow]);
        for state in [ProofState::Making, ProofState::Proved, ProofState::Asked] {
            assert_eq!(step(state, turn().close), [Step::Close], "{state:?}");
        }
        for state in [ProofState::Landed, ProofState::Nothing, ProofState::Missed] {
            assert_eq!(step(state, turn().close), [], "{state:?}");
            assert_eq!(step(state, turn().open), [], "{state:?}");
        }
    }

    #[test]
    fn what_an_attempt_leaves_out_is_skipped() {
        let reads = two_of_three();
        let attempt = Attempt { sectors: vec![(SectorNumber(0), worker("w1"))], failed_at: vec![] };
        assert_eq!(skipped(&reads, &attempt), [SectorNumber(1), SectorNumber(2)]);
    }
}

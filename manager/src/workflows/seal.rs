//! What sealing asks of the chain, the permanent stores and the proofs library.

mod messages;
mod table;

#[cfg(test)]
pub(crate) mod tests;

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Randomness,
    parts::{PreCommitInfo, Seed, Ticket},
    workflows::{
        Input,
        seal::manager::{Active, Answer, PreCommitted, Proven, Rebuild, Seal, Sealed, State, Stored},
    },
};
use serde_json::{Value, json};

use super::{At, Driven, Found, Known, Need, Next, Now, Question, error_detail};
use crate::{
    chain::randomness::{Domain, FINALITY, seed_epoch, ticket_epoch, ticket_expires_epoch},
    proofs::Porep,
    store::{Job, MessageKind},
};

const OTHER_PRECOMMIT: &str = "the sector has another PreCommit on chain, of another replica";

impl Driven for Seal {
    fn needs(state: &State) -> Option<Need<'_>> {
        match state {
            State::DrawingTicket { .. } => Some(Need::Begin),
            State::CheckingFiles(stored) => Some(Need::Files { store: &stored.files.store }),
            State::PreCommitting(_)
            | State::Persisting(_)
            | State::AwaitingSeed(_)
            | State::Committing(_)
            | State::VerifyingProof(_)
            | State::ProveCommitting(_)
            | State::Requeued(_)
            | State::Rebuilding(_) => Some(Need::Answer),
            State::Queued
            | State::Packing
            | State::Sealing { .. }
            | State::Cleaning(_)
            | State::Proving(_)
            | State::Aborting { .. }
            | State::Abandoning { .. }
            | State::Aborted { .. } => None,
        }
    }

    fn next(job: &Job, state: &State, now: &Now, known: &Known) -> Result<Next, Question> {
        match state {
            State::DrawingTicket { draw } => draw_ticket(job, *draw, now, known),
            State::PreCommitting(sealed)
            | State::Requeued(Rebuild::Sent(sealed))
            | State::Rebuilding(Rebuild::Sent(sealed)) => await_precommit(state, sealed, now, known),
            State::Persisting(precommitted)
            | State::Requeued(Rebuild::Landed(precommitted))
            | State::Rebuilding(Rebuild::Landed(precommitted)) => watch(precommitted, now, known),
            State::Committing(seeded) => watch(&seeded.stored.precommitted, now, known),
            State::CheckingFiles(stored) => check_files(stored, now, known),
            State::AwaitingSeed(stored) => draw_seed(stored, now, known),
            State::VerifyingProof(proven) => verify(proven, now, known),
            State::ProveCommitting(proven) => await_activation(proven, now, known),
            State::Proving(active) => watch_active(active, now, known),
            _ => Ok(Next::Wait { until: None }),
        }
    }

    fn told(answer: &Answer) -> (&'static str, Value) {
        match answer {
            Answer::TicketDrawn(Ticket { draw, epoch, expires_epoch, .. }) => {
                ("ticket_drawn", json!({ "draw": draw, "epoch": epoch, "expires_epoch": expires_epoch }))
            }
            Answer::PreCommitLanded(PreCommitInfo { epoch, prove_by_epoch, .. }) => {
                ("precommit_landed", json!({ "epoch": epoch, "prove_by_epoch": prove_by_epoch }))
            }
            Answer::PreCommitMoved(to) => ("precommit_moved", json!({ "to_epoch": to.epoch })),
            Answer::FilesChecked => ("files_checked", json!({})),
            Answer::SeedDrawn(Seed { draw, epoch, .. }) => ("seed_drawn", json!({ "draw": draw, "epoch": epoch })),
            Answer::ProofVerified => ("proof_verified", json!({})),
            Answer::ProveLanded { activation_epoch } => {
                ("prove_landed", json!({ "activation_epoch": activation_epoch }))
            }
            Answer::ProveReverted => ("prove_reverted", json!({})),
            Answer::Expired(error) => ("expired", error_detail(error)),
        }
    }
}

/// Draws the ticket when the worker asks for it, and not earlier, because a ticket ages from the moment it is drawn.
/// Whatever could make hours of sealing worthless is checked first.
fn draw_ticket(job: &Job, draw: u32, now: &Now, known: &Known) -> Result<Next, Question> {
    // No PreCommit of this attempt was ever signed, so if the number is used, it is used for another replica.
    if known.yes(Question::NumberAllocated { at: At::Head })? {
        let (number, miner) = (job.id.number.0, job.id.miner);
        let text =
            format!("number {number} of miner {miner} is used on chain already, by another tool or an earlier life");
        return Ok(Next::GiveUp(ErrorReport::new(ErrorClass::Abort, ErrorCode::NUMBER_TAKEN, text)));
    }
    known.yes(Question::MayBegin)?;
    let epoch = ticket_epoch(now.head);
    let randomness = known.randomness(Question::TicketRandomness { domain: Domain::SealRandomness, epoch })?;
    Ok(Next::Apply(Input::from(Answer::TicketDrawn(Ticket {
        draw,
        randomness: Randomness(randomness),
        epoch,
        expires_epoch: ticket_expires_epoch(epoch),
        head_epoch: now.head,
        epoch_millis: now.epoch_millis,
    }))))
}

/// The PreCommit was sent. Waits until it is on chain at the confident tipset.
fn await_precommit(state: &State, sealed: &Sealed, now: &Now, known: &Known) -> Result<Next, Question> {
    let at_work = matches!(state, State::PreCommitting(_) | State::Rebuilding(_));
    Ok(match known.found(precommit(At::Confident, sealed))? {
        Some(Found { is_ours: true, epoch }) => Next::Landed {
            kind: MessageKind::PreCommit,
            epoch,
            input: Input::from(Answer::PreCommitLanded(precommit_info(epoch, now))),
        },
        Some(_) => taken(OTHER_PRECOMMIT),
        // The ticket has expired and no PreCommit was included, so none can be any more. Sealing again needs a new
        // ticket.
        None if at_work && now.lagged > sealed.ticket.expires_epoch => {
            Next::Apply(Input::from(Answer::Expired(aged(sealed, now))))
        }
        None => now.wait(),
    })
}

/// Watches a PreCommit that has landed: a reorganisation deeper than our confidence may remove it, and the time to prove
/// it may run out.
fn watch(precommitted: &PreCommitted, now: &Now, known: &Known) -> Result<Next, Question> {
    let until = precommitted.precommit.prove_by_epoch + 1;
    Ok(moved(precommitted, now, known)?.unwrap_or_else(|| now.wait_until(until)))
}

fn check_files(stored: &Stored, now: &Now, known: &Known) -> Result<Next, Question> {
    known.yes(Question::MayRead { store: stored.files.store.clone() })?;
    if let Some(next) = moved(&stored.precommitted, now, known)? {
        return Ok(next);
    }
    let comm_r = stored.precommitted.sealed.comm_r;
    let proved = known.verdict(Question::FilesProve { comm_r, files: stored.files.clone() })?;
    Ok(Next::Apply(proved.map_or_else(Input::Refused, |()| Input::from(Answer::FilesChecked))))
}

/// Draws the seed when its epoch is confident, for the epoch that the PreCommit has then.
fn draw_seed(stored: &Stored, now: &Now, known: &Known) -> Result<Next, Question> {
    let PreCommitted { precommit, seeds_drawn, .. } = &stored.precommitted;
    let epoch = seed_epoch(precommit.epoch, now.rules.prove_commit_earliest(0) - 1);
    if now.lagged < epoch {
        return Ok(now.wait_until(epoch + now.confidence));
    }
    if let Some(next) = moved(&stored.precommitted, now, known)? {
        return Ok(next);
    }
    let domain = Domain::InteractiveSealChallengeSeed;
    let randomness = Randomness(known.randomness(Question::BeaconRandomness { domain, epoch })?);
    Ok(Next::Apply(Input::from(Answer::SeedDrawn(Seed { draw: seeds_drawn + 1, randomness, epoch }))))
}

/// Verifies the proof before it is sent, because the chain charges for a wrong one.
fn verify(proven: &Proven, now: &Now, known: &Known) -> Result<Next, Question> {
    let precommitted = &proven.seeded.stored.precommitted;
    if let Some(next) = moved(precommitted, now, known)? {
        // A restored database may not know that the proof was sent.
        let comm_r = precommitted.sealed.comm_r;
        if let Some(Found { is_ours: true, epoch }) = known.found(Question::ActiveSector { comm_r })? {
            let input = Input::from(Answer::ProveLanded { activation_epoch: epoch });
            return Ok(Next::Landed { kind: MessageKind::ProveCommit, epoch, input });
        }
        return Ok(next);
    }
    let verified = known.verdict(Question::Verifies(Box::new(porep(proven))))?;
    Ok(Next::Apply(verified.map_or_else(Input::Refused, |()| Input::from(Answer::ProofVerified))))
}

/// A sector's proof, and what it states.
fn porep(proven: &Proven) -> Porep {
    let Sealed { ticket, comm_r, comm_d } = &proven.seeded.stored.precommitted.sealed;
    Porep {
        comm_r: *comm_r,
        comm_d: *comm_d,
        ticket: ticket.randomness,
        seed: proven.seeded.seed.randomness,
        proof: proven.proof.clone(),
    }
}

/// The ProveCommit was sent. Waits until the sector is active at the confident tipset.
fn await_activation(proven: &Proven, now: &Now, known: &Known) -> Result<Next, Question> {
    let PreCommitted { sealed, precommit: stood, .. } = &proven.seeded.stored.precommitted;
    if let Some(Found { is_ours, epoch }) = known.found(Question::ActiveSector { comm_r: sealed.comm_r })? {
        return Ok(match is_ours {
            true => Next::Landed {
                kind: MessageKind::ProveCommit,
                epoch,
                input: Input::from(Answer::ProveLanded { activation_epoch: epoch }),
            },
            false => taken("the sector is active on chain with another replica"),
        });
    }
    // Ask about the same tipset: activation removes the PreCommit and adds the sector in one step.
    Ok(match known.found(precommit(At::Confident, sealed))? {
        // No proof was included in time.
        _ if now.lagged > stood.prove_by_epoch => Next::Apply(Input::from(Answer::Expired(run_out(stood, now)))),
        // The proof uses the seed of the PreCommit's earlier epoch.
        Some(Found { is_ours: true, epoch }) if epoch != stood.epoch => {
            Next::Apply(Input::from(Answer::PreCommitMoved(precommit_info(epoch, now))))
        }
        Some(Found { is_ours: true, .. }) => now.wait(),
        // A reorganisation took ours away, and another tool was faster.
        Some(_) => taken(OTHER_PRECOMMIT),
        None => Next::PushPreCommitAgain,
    })
}

/// Watches an active sector until its activation is final. A reorganisation deeper than our confidence may take its ProveCommit
/// away, and nobody else would notice.
fn watch_active(active: &Active, now: &Now, known: &Known) -> Result<Next, Question> {
    let final_from = active.activation_epoch + FINALITY;
    let sealed = &active.proven.seeded.stored.precommitted.sealed;
    Ok(match known.found(Question::ActiveSector { comm_r: sealed.comm_r })? {
        Some(Found { is_ours: true, epoch }) if epoch != active.activation_epoch => {
            Next::Apply(Input::from(Answer::ProveLanded { activation_epoch: epoch }))
        }
        Some(_) if now.lagged < final_from => now.wait_until(final_from + now.confidence),
        Some(_) => Next::Wait { until: None },
        // Ask about the same tipset. What left no trace but the number has been active: somebody terminated it.
        None if known.found(precommit(At::Confident, sealed))?.is_none()
            && known.yes(Question::NumberAllocated { at: At::Confident })? =>
        {
            Next::Wait { until: None }
        }
        None => Next::Reverted { kind: MessageKind::ProveCommit, input: Input::from(Answer::ProveReverted) },
    })
}

/// What follows if the PreCommit is not on chain at the epoch that we know. The chain is not asked if the time to prove
/// has run out.
fn moved(known_as: &PreCommitted, now: &Now, known: &Known) -> Result<Option<Next>, Question> {
    let stood = &known_as.precommit;
    if now.head > stood.prove_by_epoch {
        return Ok(Some(Next::Apply(Input::from(Answer::Expired(run_out(stood, now))))));
    }
    Ok(match known.found(precommit(At::Confident, &known_as.sealed))? {
        Some(Found { is_ours: true, epoch }) if epoch == stood.epoch => None,
        Some(Found { is_ours: true, epoch }) => {
            Some(Next::Apply(Input::from(Answer::PreCommitMoved(precommit_info(epoch, now)))))
        }
        // A reorganisation took ours away, and another tool was faster.
        Some(_) => Some(taken(OTHER_PRECOMMIT)),
        None => Some(Next::PushPreCommitAgain),
    })
}

const fn precommit(at: At, sealed: &Sealed) -> Question {
    Question::PreCommit { at, comm_r: sealed.comm_r }
}

fn precommit_info(epoch: i64, now: &Now) -> PreCommitInfo {
    PreCommitInfo {
        epoch,
        prove_by_epoch: now.rules.prove_commit_deadline(epoch),
        head_epoch: now.head,
        epoch_millis: now.epoch_millis,
    }
}

fn taken(text: &str) -> Next {
    Next::Apply(Input::Refused(ErrorReport::new(ErrorClass::Perm, ErrorCode::NUMBER_TAKEN, text)))
}

fn aged(sealed: &Sealed, now: &Now) -> ErrorReport {
    let text = format!(
        "the ticket of epoch {} could be used until epoch {}; the chain is at {}",
        sealed.ticket.epoch, sealed.ticket.expires_epoch, now.head
    );
    ErrorReport::new(ErrorClass::Abort, ErrorCode::TICKET_EXPIRED, text)
}

fn run_out(precommit: &PreCommitInfo, now: &Now) -> ErrorReport {
    let text = format!(
        "the PreCommit of epoch {} had to be proven by epoch {}; the chain is at {}",
        precommit.epoch, precommit.prove_by_epoch, now.head
    );
    ErrorReport::new(ErrorClass::Perm, ErrorCode::PRECOMMIT_EXPIRED, text)
}

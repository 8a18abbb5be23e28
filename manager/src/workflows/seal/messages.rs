//! The messages of sealing: one PreCommit and one ProveCommit.

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport,
    workflows::{
        Input,
        seal::manager::{Answer, Rebuild, Seal, State},
    },
};

use super::{aged, porep, precommit};
use crate::{
    chain::WaitReason,
    store::{Job, Message, MessageKind},
    workflows::{At, Call, Known, Now, Question, Sends, Wanted},
};

/// A PreCommit is no longer signed this many epochs before its ticket expires, because it could not land in time.
const TICKET_MARGIN: i64 = 3;

impl Sends for Seal {
    fn wanted(message: &Message, job: &Job, state: &State, now: &Now, known: &Known) -> Result<Wanted, Question> {
        match (state, message.kind) {
            (state, MessageKind::PreCommit) if is_sealed(state) => wanted_precommit(job, state, now, known),
            (State::ProveCommitting(proven), MessageKind::ProveCommit) => {
                let precommitted = &proven.seeded.stored.precommitted;
                let stood = precommitted.precommit.epoch;
                let found = known.found(precommit(At::Head, &precommitted.sealed))?;
                // At the head the PreCommit is gone, or it is at another epoch and so has another seed. Wait until this
                // is confident.
                if found.is_none_or(|found| found.epoch != stood) {
                    let (what, head) = (message.key.clone(), now.head);
                    return Ok(Wanted::WaitFor(WaitReason::PreCommitMoved { what, known: stood, head }));
                }
                Ok(Wanted::Sign(Call::ProveCommit { porep: Box::new(porep(proven)) }))
            }
            _ => Ok(Wanted::Wait),
        }
    }

    /// A sector that went back to an earlier state needs another proof than the one in a signed ProveCommit.
    fn has_use_for(kind: MessageKind, state: &State) -> bool {
        match kind {
            MessageKind::ProveCommit => {
                matches!(state, State::ProveCommitting(_) | State::Cleaning(_) | State::Proving(_))
            }
            MessageKind::PreCommit | MessageKind::Filler | MessageKind::Errand => true,
        }
    }

    fn awaits(kind: MessageKind, state: &State) -> bool {
        matches!(
            (state, kind),
            (
                State::PreCommitting(_) | State::Requeued(Rebuild::Sent(_)) | State::Rebuilding(Rebuild::Sent(_)),
                MessageKind::PreCommit
            ) | (State::ProveCommitting(_), MessageKind::ProveCommit)
        )
    }
}

/// A PreCommit is also wanted after it had landed, if it has vanished from the chain for good.
fn wanted_precommit(job: &Job, state: &State, now: &Now, known: &Known) -> Result<Wanted, Question> {
    let Some(sealed) = state.sealed() else { return Ok(Wanted::Wait) };
    let is_first = matches!(state, State::PreCommitting(_));
    if is_first
        && !job.signed
        && known.yes(Question::NumberAllocated { at: At::Confident })?
        && !known.found(precommit(At::Confident, sealed))?.is_some_and(|found| found.is_ours)
    {
        let (number, miner) = (job.id.number.0, job.id.miner);
        let text = format!("number {number} of miner {miner} was used on chain by another tool meanwhile");
        let cause = ErrorReport::new(ErrorClass::Perm, ErrorCode::NUMBER_TAKEN, text);
        return Ok(Wanted::Apply(Input::Refused(cause)));
    }
    if now.head + TICKET_MARGIN >= sealed.ticket.expires_epoch {
        let error = aged(sealed, now);
        return Ok(Wanted::GiveUp { input: Input::from(Answer::Expired(error.clone())), error });
    }
    // It may be on chain again, at the confident tipset or only at the head. And a restored database may not know its message.
    if !is_first || job.signed {
        if known.found(precommit(At::Confident, sealed))?.is_some() {
            // The sector itself notices.
            return Ok(if is_first { Wanted::Wait } else { Wanted::Over("the PreCommit is on chain again") });
        }
        if known.found(precommit(At::Head, sealed))?.is_some() {
            return Ok(Wanted::Wait);
        }
    }
    Ok(Wanted::Sign(Call::PreCommit { comm_r: sealed.comm_r, ticket_epoch: sealed.ticket.epoch }))
}

/// Whether a PreCommit can be signed in this state: the sector is sealed, in progress, and not being rebuilt.
fn is_sealed(state: &State) -> bool {
    matches!(
        state,
        State::PreCommitting(_)
            | State::Persisting(_)
            | State::CheckingFiles(_)
            | State::AwaitingSeed(_)
            | State::Committing(_)
            | State::VerifyingProof(_)
            | State::ProveCommitting(_)
    )
}

//! What the chain is asked for a sector or a message, and what its answers mean. Pure: the driver asks and stores, the
//! simulation does the same with a chain of its own.

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Randomness,
    machine::manager::Life,
    parts::{PreCommitInfo, Seed, Ticket},
    workflows::{
        self, Input,
        seal::manager::{Answer, PreCommitted, Proven, Rebuild, Sealed, State, Stored},
    },
};
use serde_json::{Value, json};

use super::error_detail;
use crate::{
    chain::{
        exit::{ExitClass, ExitCode},
        expiry::Rules,
        randomness::{seed_epoch, ticket_epoch, ticket_expires_epoch},
    },
    store::{Job, Message, MessageKind, Tries},
};

/// How many messages may be executed in vain for one purpose before a person must look. Each costs its gas.
pub const FAILURES_MAX: u32 = 4;
/// For how many epochs a node must refuse to estimate a message before that counts. It tries the message on what its message pool
/// follows, which may be behind the head.
pub const REFUSAL_EPOCHS: i64 = 5;
/// How close to the last epoch of its ticket a PreCommit is not signed any more: it could not land.
const TICKET_MARGIN: i64 = 3;

/// What a sector waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ask<'a> {
    /// The randomness of a ticket.
    Ticket {
        /// Which one of the lease.
        draw: u32,
    },
    /// Its PreCommit, which may have landed.
    PreCommit(&'a Sealed),
    /// Its PreCommit, which may have moved or run out.
    Watch(&'a PreCommitted),
    /// A challenge of its files.
    Files(&'a Stored),
    /// The randomness of a seed.
    Seed(&'a Stored),
    /// Whether its proof verifies.
    Proof(&'a Proven),
    /// The sector itself, which may be active.
    Active(&'a Proven),
}

/// The chain's time and rules at one tick.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The height of the heaviest tipset.
    pub head: i64,
    /// The height of the last confident one.
    pub lagged: i64,
    /// The network's rules.
    pub rules: Rules,
    /// The length of an epoch in milliseconds.
    pub epoch_millis: u64,
}

/// What the chain has under a sector's number, at the last confident tipset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether it is of the replica that we know.
    pub is_ours: bool,
    /// The epoch of its PreCommit or of its activation.
    pub epoch: i64,
}

/// What the chain says about a PreCommit that had landed.
#[derive(Clone, Debug, PartialEq)]
pub enum Watched {
    /// It stands where we know it.
    Same,
    /// It does not, and this follows.
    Changed(Input),
    /// It is not there (any more, or not yet again).
    Missing,
}

/// What to do about a message without bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Build and sign it.
    Sign,
    /// Nothing now: the sector is blocked, or goes another way.
    Wait,
    /// It is not wanted any more, and nothing of it can be anywhere.
    Over,
    /// It cannot succeed any more.
    GiveUp(ErrorReport),
}

/// What is known of a pushed message in the confident part of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was executed.
    Executed {
        /// In which epoch.
        height: i64,
        /// With which outcome for our sector.
        exit: ExitCode,
        /// How much gas it was given.
        gas_limit: u64,
    },
    /// It is not there.
    Absent {
        /// Whether another message took its nonce, so that it can never land.
        nonce_used: bool,
    },
}

/// What to do about a pushed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Nothing now.
    Wait,
    /// The same bytes again.
    Push,
    /// It was executed well, and nobody waits to hear it.
    Landed {
        /// In which epoch.
        height: i64,
    },
    /// Another message took its nonce, and that is all there is to say.
    Replaced {
        /// By what, in words.
        why: String,
    },
    /// It is over without its effect, and another message of the same purpose is signed.
    Again {
        /// With which exit code it was executed, if it was.
        exit: Option<u32>,
        /// Why.
        error: ErrorReport,
        /// What the next one must mind.
        tries: Tries,
    },
    /// It is over without its effect.
    GiveUp {
        /// With which exit code it was executed, if it was.
        exit: Option<u32>,
        /// Why.
        error: ErrorReport,
    },
}

/// What a node's refusal to estimate a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It may be so only now.
    ForNow {
        /// Since when the node says so.
        since: i64,
        /// From when on it counts.
        until: i64,
    },
    /// It counts.
    Final,
}

/// What a job waits for from the chain or the stores. `None` where it waits for something else, or for a person.
pub fn ask(job: &Job) -> Option<Ask<'_>> {
    if job.blocked.is_some() {
        return None;
    }
    Some(match job.state.seal()? {
        State::DrawingTicket { draw } => Ask::Ticket { draw: *draw },
        State::PreCommitting(sealed)
        | State::Requeued(Rebuild::Sent(sealed))
        | State::Rebuilding(Rebuild::Sent(sealed)) => Ask::PreCommit(sealed),
        State::Persisting(precommitted)
        | State::Requeued(Rebuild::Landed(precommitted))
        | State::Rebuilding(Rebuild::Landed(precommitted)) => Ask::Watch(precommitted),
        State::Committing(seeded) => Ask::Watch(&seeded.stored.precommitted),
        State::CheckingFiles(stored) => Ask::Files(stored),
        State::AwaitingSeed(stored) => Ask::Seed(stored),
        State::VerifyingProof(proven) => Ask::Proof(proven),
        State::ProveCommitting(proven) => Ask::Active(proven),
        State::Queued
        | State::Packing
        | State::Sealing { .. }
        | State::Cleaning(_)
        | State::Proving(_)
        | State::Aborting { .. }
        | State::Abandoning { .. }
        | State::Aborted { .. } => return None,
    })
}

/// Until which epoch a sector can reach what it waits for on chain: its ticket's or its PreCommit's end.
pub fn expires(job: &Job) -> i64 {
    let Some(state) = job.state.seal() else { return i64::MAX };
    match (state.precommitted(), state.sealed()) {
        (Some(precommitted), _) => precommitted.precommit.prove_by_epoch,
        (None, Some(sealed)) => sealed.ticket.expires_epoch,
        (None, None) => i64::MAX,
    }
}

impl Now {
    /// The epoch whose randomness makes a ticket now.
    pub fn ticket_epoch(&self) -> i64 {
        ticket_epoch(self.head)
    }

    /// A ticket that is drawn now.
    pub fn ticket(&self, draw: u32, randomness: [u8; 32]) -> Input {
        let epoch = self.ticket_epoch();
        Input::from(Answer::TicketDrawn(Ticket {
            draw,
            randomness: Randomness(randomness),
            epoch,
            expires_epoch: ticket_expires_epoch(epoch),
            head_epoch: self.head,
            epoch_millis: self.epoch_millis,
        }))
    }

    /// What follows from what the chain has in the place of a PreCommit that a sector waits for.
    pub fn precommit_found(&self, job: &Job, sealed: &Sealed, found: Option<Found>) -> Option<Input> {
        let Some(found) = found else {
            // No PreCommit with this ticket can be included any more, and none was: sealing it again needs another ticket.
            let at_work = matches!(job.state.seal(), Some(State::PreCommitting(_) | State::Rebuilding(_)));
            return (at_work && self.lagged > sealed.ticket.expires_epoch)
                .then(|| Input::from(Answer::Expired(self.aged(sealed))));
        };
        if !found.is_ours {
            let message = "the sector has another PreCommit on chain, of another replica";
            return Some(Input::Refused(ErrorReport::new(ErrorClass::Perm, ErrorCode::NUMBER_TAKEN, message)));
        }
        Some(Input::from(Answer::PreCommitLanded(self.precommit(found.epoch))))
    }

    /// What the chain says about a PreCommit that had landed. It need not be asked when the time to prove has run out.
    pub fn watch(&self, known: &PreCommitted, found: Option<Found>) -> Watched {
        match found {
            _ if self.has_run_out(known) => Watched::Changed(Input::from(Answer::Expired(self.run_out(known)))),
            Some(Found { is_ours: true, epoch }) if epoch == known.precommit.epoch => Watched::Same,
            Some(Found { is_ours: true, epoch }) => {
                Watched::Changed(Input::from(Answer::PreCommitMoved(self.precommit(epoch))))
            }
            _ => Watched::Missing,
        }
    }

    /// Whether the chain takes no proof for a PreCommit any more.
    pub fn has_run_out(&self, known: &PreCommitted) -> bool {
        self.head > known.precommit.prove_by_epoch
    }

    /// From which epoch of the head on a sector is looked at again if nothing changes about it until then: 0 for as long as it
    /// is tried at each tick, `None` if it waits for nothing from the chain. `settled` says that all was found as it is known.
    pub fn look_at(&self, job: &Job, settled: bool, confidence: i64) -> Option<i64> {
        let next = self.head + 1;
        Some(match ask(job)? {
            Ask::Ticket { .. } | Ask::Files(_) | Ask::Proof(_) => 0,
            // A PreCommit that was seen with confidence stands until it has run out or the chain is another one.
            Ask::Watch(known) if settled => next.max(known.precommit.prove_by_epoch + 1),
            Ask::Seed(stored) if settled => next.max(self.seed_epoch(stored) + confidence),
            Ask::PreCommit(_) | Ask::Watch(_) | Ask::Seed(_) | Ask::Active(_) => next,
        })
    }

    /// The epoch of a sector's seed.
    pub fn seed_epoch(&self, stored: &Stored) -> i64 {
        seed_epoch(stored.precommitted.precommit.epoch, self.rules.prove_commit_earliest(0) - 1)
    }

    /// A seed that is drawn now.
    pub fn seed(&self, stored: &Stored, randomness: [u8; 32]) -> Input {
        let draw = stored.precommitted.seeds_drawn + 1;
        Input::from(Answer::SeedDrawn(Seed {
            draw,
            randomness: Randomness(randomness),
            epoch: self.seed_epoch(stored),
        }))
    }

    /// What follows from what the chain has as the sector, and where it has none, in the place of its PreCommit.
    pub fn sector_found(&self, proven: &Proven, found: Option<Found>, precommit: Option<Found>) -> Option<Input> {
        let known = &proven.seeded.stored.precommitted;
        match (found, precommit) {
            (Some(Found { is_ours: false, .. }), _) => {
                let message = "the sector is active on chain with another replica";
                Some(Input::Refused(ErrorReport::new(ErrorClass::Perm, ErrorCode::NUMBER_TAKEN, message)))
            }
            (Some(Found { epoch, .. }), _) => Some(Input::from(Answer::ProveLanded { activation_epoch: epoch })),
            // With confidence: no proof was included in time.
            (None, _) if self.lagged > known.precommit.prove_by_epoch => {
                Some(Input::from(Answer::Expired(self.run_out(known))))
            }
            // The proof is for the seed of the epoch where the PreCommit stood before.
            (None, Some(Found { is_ours: true, epoch })) if epoch != known.precommit.epoch => {
                Some(Input::from(Answer::PreCommitMoved(self.precommit(epoch))))
            }
            (None, _) => None,
        }
    }

    /// What to do about a message without bytes.
    pub fn wanted(&self, message: &Message, sector: &Job) -> Wanted {
        let is_over = sector.blocked.is_none() && sector.state.traits().life != Life::Going;
        if is_over || message.attempt != sector.attempt {
            // The present attempt has a row of its own.
            return Wanted::Over;
        }
        let Some(state) = sector.state.seal().filter(|_| sector.blocked.is_none()) else { return Wanted::Wait };
        match (state, message.kind) {
            // Also after it had landed, if it is gone from the chain for good.
            (state, MessageKind::PreCommit) if is_sealed(state) => match state.sealed() {
                Some(sealed) if self.head + TICKET_MARGIN >= sealed.ticket.expires_epoch => {
                    Wanted::GiveUp(self.aged(sealed))
                }
                Some(_) => Wanted::Sign,
                None => Wanted::Wait,
            },
            (State::ProveCommitting(_), MessageKind::ProveCommit) => Wanted::Sign,
            _ => Wanted::Wait,
        }
    }

    /// What a refusal to estimate a message means, which ended with this exit code.
    pub fn refused(&self, tries: &Tries, exit: ExitCode) -> Refusal {
        let since = tries.refused_epoch.unwrap_or(self.head);
        let until = since + REFUSAL_EPOCHS;
        match exit.class() {
            ExitClass::Refused => Refusal::Final,
            _ if self.head < until => Refusal::ForNow { since, until },
            _ => Refusal::Final,
        }
    }

    /// What to do about a message that was pushed at an epoch, `what` naming it for people. That it can never land, or that it was
    /// executed, is known with confidence: only then may another one of the same purpose get another nonce.
    pub fn followed(
        &self,
        message: &Message,
        sector: Option<&Job>,
        pushed: i64,
        repush_epochs: i64,
        seen: Seen,
        what: &str,
    ) -> Followed {
        let (height, exit, gas_limit) = match seen {
            Seen::Absent { nonce_used: true } => return self.replaced(message, sector, what),
            Seen::Absent { nonce_used: false } if self.head - pushed >= repush_epochs => return Followed::Push,
            Seen::Absent { nonce_used: false } => return Followed::Wait,
            Seen::Executed { height, exit, gas_limit } => (height, exit, gas_limit),
        };
        if message.kind == MessageKind::Filler {
            return Followed::Landed { height };
        }
        if !exit.is_ok() {
            return failed(message, height, exit, gas_limit, what);
        }
        if !sector.is_some_and(|sector| awaits(sector, message.kind)) {
            // The sector has heard, was given up, or is blocked: then it hears when it goes on.
            let blocked = sector.is_some_and(|sector| sector.blocked.is_some());
            return if blocked { Followed::Wait } else { Followed::Landed { height } };
        }
        // Executed well, and the sector's state at the same tipset was read before: it must have taken effect.
        if height + repush_epochs < self.lagged {
            let text = format!("{what} was executed at epoch {height} without its effect");
            let error = ErrorReport::new(ErrorClass::Perm, ErrorCode::MESSAGE_WITHOUT_EFFECT, text);
            return Followed::GiveUp { exit: Some(0), error };
        }
        Followed::Wait
    }

    /// Another message has its nonce.
    fn replaced(&self, message: &Message, sector: Option<&Job>, what: &str) -> Followed {
        let why = format!("the nonce of {what} was used by another message");
        let wanted = message.kind != MessageKind::Filler && sector.is_some_and(|sector| !unwanted(message, sector));
        if !wanted {
            return Followed::Replaced { why };
        }
        // It cost nothing, so it does not count.
        let tries = Tries { refused_epoch: None, ..message.tries };
        let error = ErrorReport::new(ErrorClass::Temp, ErrorCode::NONCE_USED, why);
        Followed::Again { exit: None, error, tries }
    }

    fn aged(&self, sealed: &Sealed) -> ErrorReport {
        let text = format!(
            "the ticket of epoch {} could be used until epoch {}; the chain is at {}",
            sealed.ticket.epoch, sealed.ticket.expires_epoch, self.head
        );
        ErrorReport::new(ErrorClass::Abort, ErrorCode::TICKET_EXPIRED, text)
    }

    fn run_out(&self, known: &PreCommitted) -> ErrorReport {
        let message = format!(
            "the PreCommit of epoch {} had to be proven by epoch {}; the chain is at {}",
            known.precommit.epoch, known.precommit.prove_by_epoch, self.head
        );
        ErrorReport::new(ErrorClass::Perm, ErrorCode::PRECOMMIT_EXPIRED, message)
    }

    fn precommit(&self, epoch: i64) -> PreCommitInfo {
        PreCommitInfo {
            epoch,
            prove_by_epoch: self.rules.prove_commit_deadline(epoch),
            head_epoch: self.head,
            epoch_millis: self.epoch_millis,
        }
    }
}

/// Whether a message that was built for a sector as it stood then may be signed as it stands now: meanwhile it may have
/// been given up, released or blocked.
pub fn still_wanted(then: &Job, now: Option<&Job>) -> bool {
    now.is_some_and(|now| now.attempt == then.attempt && now.standing() == then.standing())
}

/// Whether a PreCommit can be signed for a sector in this state: it is sealed, at work, and not sealed again.
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

/// Whether nobody wants what a signed message would do: its sector was given up, has begun another attempt, or needs another
/// proof than the one in it.
pub fn unwanted(message: &Message, sector: &Job) -> bool {
    let given_up = matches!(sector.state.traits().life, Life::Leaving | Life::GivenUp);
    given_up
        || message.attempt != sector.attempt
        || match message.kind {
            MessageKind::ProveCommit => {
                !matches!(sector.state.seal(), Some(State::ProveCommitting(_) | State::Cleaning(_) | State::Proving(_)))
            }
            MessageKind::PreCommit | MessageKind::Filler => false,
        }
}

/// A message that was executed and had no effect.
fn failed(message: &Message, height: i64, exit: ExitCode, gas_limit: u64, what: &str) -> Followed {
    let failures = message.tries.failures + 1;
    let exhausted = failures >= FAILURES_MAX;
    let text = format!("{what} failed at epoch {height} with exit code {} ({})", exit.value(), exit.meaning());
    let text = match exit.class() {
        ExitClass::OutOfGas => format!("{text}: its limit was {gas_limit}, try {failures} of {FAILURES_MAX}"),
        ExitClass::Funds | ExitClass::State => format!("{text}, try {failures} of {FAILURES_MAX}"),
        ExitClass::Success | ExitClass::Refused => text,
    };
    let (again, code) = match exit.class() {
        ExitClass::OutOfGas => (!exhausted, ErrorCode::MESSAGE_OUT_OF_GAS),
        ExitClass::Funds => (!exhausted, ErrorCode::FUNDS_MISSING),
        // The estimate for the next one tells whether the chain still refuses.
        ExitClass::State => (!exhausted, refusal(message.kind)),
        ExitClass::Success | ExitClass::Refused => (false, refusal(message.kind)),
    };
    let exit_code = Some(exit.value());
    if !again {
        return Followed::GiveUp { exit: exit_code, error: ErrorReport::new(ErrorClass::Perm, code, text) };
    }
    let more = (exit.class() == ExitClass::OutOfGas).then(|| gas_limit.saturating_add(gas_limit / 2));
    let tries = Tries { failures, gas_limit_min: more.max(message.tries.gas_limit_min), refused_epoch: None };
    Followed::Again { exit: exit_code, error: ErrorReport::new(ErrorClass::Temp, code, text), tries }
}

/// The code of a message that the chain does not take for what it says, and not for what it may cost.
pub const fn refusal(kind: MessageKind) -> ErrorCode {
    match kind {
        MessageKind::PreCommit | MessageKind::Filler => ErrorCode::PRECOMMIT_REFUSED,
        MessageKind::ProveCommit => ErrorCode::PROVE_COMMIT_REFUSED,
    }
}

/// How a sector's history names what the chain or the store brought, and its particulars.
pub fn told(input: &Input) -> (&'static str, Value) {
    let answer = match input {
        Input::Refused(error) => return ("refused", error_detail(error)),
        Input::Answer(workflows::Answer::Seal(answer)) => answer,
        _ => return ("chain", json!({})),
    };
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
        Answer::ProveLanded { activation_epoch } => ("prove_landed", json!({ "activation_epoch": activation_epoch })),
        Answer::Expired(error) => ("expired", error_detail(error)),
    }
}

/// Whether a sector in this state waits for the effect of a message of this kind.
pub(super) fn awaits(job: &Job, kind: MessageKind) -> bool {
    let Some(state) = job.state.seal().filter(|_| job.blocked.is_none()) else { return false };
    matches!(
        (state, kind),
        (
            State::PreCommitting(_) | State::Requeued(Rebuild::Sent(_)) | State::Rebuilding(Rebuild::Sent(_)),
            MessageKind::PreCommit
        ) | (State::ProveCommitting(_), MessageKind::ProveCommit)
    )
}

#[cfg(test)]
mod tests;

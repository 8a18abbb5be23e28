//! Decides what happens to messages, whatever their purpose. Pure: the driver asks the node and stores the decisions, and
//! the simulation does the same with its own chain.

use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, machine::manager::Life, workflows::Input};
use serde_json::{Value, json};

use crate::{
    chain::exit::{ExitClass, ExitCode},
    store::{Job, Message, MessageKind, Tries},
    workflows::{self, Known, Now, Question, Wanted, error_detail},
};

/// How many messages for one purpose may be executed without success before a person must decide. Each costs its gas.
pub const FAILURES_MAX: u32 = 4;
/// A node's refusal to estimate a message counts only after this many epochs. The node executes the message on the tipset
/// of its message pool, which may be behind the head.
pub const REFUSAL_EPOCHS: i64 = 5;

/// What is known about a pushed message in the confident part of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was executed.
    Executed {
        /// The epoch.
        height: i64,
        /// The outcome for our sector.
        exit: ExitCode,
        /// Its gas limit.
        gas_limit: u64,
        /// How many sectors share this outcome. 1 if it is the sector's own.
        shared_by: u32,
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
    /// Do nothing now.
    Wait,
    /// Push the same bytes again.
    Push,
    /// It was executed with success, and its sector does not wait for it.
    Landed {
        /// The epoch.
        height: i64,
    },
    /// Another message took its nonce, and nothing else follows.
    Replaced {
        /// What took it, in words.
        why: String,
    },
    /// It ended without its effect, and another message of the same purpose is signed.
    Again {
        /// The exit code, if it was executed.
        exit: Option<u32>,
        /// The failure, for the message's history.
        error: ErrorReport,
        /// What the next message must take into account.
        tries: Tries,
    },
    /// It ended without its effect.
    GiveUp {
        /// The exit code, if it was executed.
        exit: Option<u32>,
        /// The failure, which also blocks the job or ends its attempt.
        error: ErrorReport,
    },
}

/// What a node's refusal to estimate a message means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The refusal may be temporary.
    ForNow {
        /// The epoch of the first refusal.
        since: i64,
        /// The epoch from which it counts.
        until: i64,
    },
    /// The refusal counts.
    Final,
}

/// What to do about a message that is not signed yet.
pub fn wanted(message: &Message, job: &Job, now: &Now, known: &Known) -> Result<Wanted, Question> {
    let is_over = job.blocked.is_none() && job.state.traits().life != Life::Going;
    if is_over || !is_of_attempt(message, job) {
        // The present attempt has a want of its own, and this one was never signed.
        return Ok(Wanted::Over("the attempt that wanted it is over"));
    }
    workflows::wanted(message, job, now, known)
}

impl Now {
    /// What it means that the node refused to estimate a message, with this exit code.
    pub fn refused(&self, tries: &Tries, exit: ExitCode) -> Refusal {
        let since = tries.refused_epoch.unwrap_or(self.head);
        let until = since + REFUSAL_EPOCHS;
        match exit.class() {
            ExitClass::Refused => Refusal::Final,
            _ if self.head < until => Refusal::ForNow { since, until },
            _ => Refusal::Final,
        }
    }

    /// What to do about a message that was pushed at an epoch. `what` names it for people. Whether it was executed, or
    /// can never land, is known only at the confident tipset. Only then may another message of the same purpose get
    /// another nonce.
    pub fn followed(
        &self,
        message: &Message,
        sector: Option<&Job>,
        pushed: i64,
        repush_epochs: i64,
        seen: Seen,
        what: &str,
    ) -> Followed {
        let (height, exit, gas_limit, shared_by) = match seen {
            Seen::Absent { nonce_used: true } => {
                let why = format!("the nonce of {what} was used by another message");
                return self.gone(message, sector, ErrorCode::NONCE_USED, why);
            }
            Seen::Absent { nonce_used: false } if self.head - pushed >= repush_epochs => return Followed::Push,
            Seen::Absent { nonce_used: false } => return Followed::Wait,
            Seen::Executed { height, exit, gas_limit, shared_by } => (height, exit, gas_limit, shared_by),
        };
        if message.kind == MessageKind::Filler {
            return Followed::Landed { height };
        }
        if !exit.is_ok() && message.kind == MessageKind::Errand {
            let text = format!("{what} failed at epoch {height} with exit code {} ({})", exit.value(), exit.meaning());
            let error = ErrorReport::new(ErrorClass::Perm, ErrorCode::ERRAND_REFUSED, text);
            return Followed::GiveUp { exit: Some(exit.value()), error };
        }
        if !exit.is_ok() && shared_by > 1 {
            return failed_together(message, height, exit, shared_by, what);
        }
        if !exit.is_ok() {
            return failed(message, height, exit, gas_limit, what);
        }
        if !sector.is_some_and(|sector| workflows::awaits(message.kind, sector)) {
            // The sector knows already, was given up, or is blocked. A blocked sector learns of it when it continues.
            let blocked = sector.is_some_and(|sector| sector.blocked.is_some());
            return if blocked { Followed::Wait } else { Followed::Landed { height } };
        }
        // It was executed with success, and the sector's state at the same tipset was read before. So it must have taken
        // effect.
        if height + repush_epochs < self.lagged {
            let text = format!("{what} was executed at epoch {height} without its effect");
            let error = ErrorReport::new(ErrorClass::Perm, ErrorCode::MESSAGE_WITHOUT_EFFECT, text);
            return Followed::GiveUp { exit: Some(0), error };
        }
        Followed::Wait
    }

    /// What follows if a message can never land and has cost nothing; `code` and `why` say what became of it.
    pub fn gone(&self, message: &Message, sector: Option<&Job>, code: ErrorCode, why: String) -> Followed {
        let wanted = match message.kind {
            MessageKind::Filler => false,
            MessageKind::Errand => true,
            _ => sector.is_some_and(|sector| !unwanted(message, sector)),
        };
        if !wanted {
            return Followed::Replaced { why };
        }
        // The message cost nothing, so it does not count as a failure.
        let tries = Tries { refused_epoch: None, ..message.tries };
        let error = ErrorReport::new(ErrorClass::Temp, code, why);
        Followed::Again { exit: None, error, tries }
    }
}

/// Whether a job is still in the same state as then. Meanwhile it may have been given up, released or blocked.
pub fn stands_as(then: &Job, now: Option<&Job>) -> bool {
    now.is_some_and(|now| now.attempt == then.attempt && now.standing() == then.standing())
}

/// Whether the effect of a signed message is no longer wanted: its sector was given up, has begun another attempt, or
/// needs another proof than the one in the message.
pub fn unwanted(message: &Message, sector: &Job) -> bool {
    let given_up = matches!(sector.state.traits().life, Life::Leaving | Life::GivenUp);
    given_up || !is_of_attempt(message, sector) || !workflows::has_use_for(message.kind, sector)
}

/// Whether the present attempt of a sector's last job wants a message.
fn is_of_attempt(message: &Message, job: &Job) -> bool {
    message.is_of_last_job && message.attempt == job.attempt
}

/// What follows if a call of several sectors failed as a whole: smaller ones, until the sector that is the cause is alone. The
/// others are not at fault, so it counts against none of them.
fn failed_together(message: &Message, height: i64, exit: ExitCode, sectors: u32, what: &str) -> Followed {
    let (exit_code, meaning) = (exit.value(), exit.meaning());
    let text = format!(
        "{what} of {sectors} sectors failed as a whole at epoch {height} with exit code {exit_code} ({meaning}); \
         the next ones are half as large"
    );
    let error = ErrorReport::new(ErrorClass::Temp, refusal(message.kind), text);
    let tries = Tries { batch_max: Some(sectors / 2), refused_epoch: None, ..message.tries };
    Followed::Again { exit: Some(exit_code), error, tries }
}

/// What follows if a message was executed and failed.
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
        // The estimate for the next message shows whether the chain still refuses.
        ExitClass::State => (!exhausted, refusal(message.kind)),
        ExitClass::Success | ExitClass::Refused => (false, refusal(message.kind)),
    };
    let exit_code = Some(exit.value());
    if !again {
        return Followed::GiveUp { exit: exit_code, error: ErrorReport::new(ErrorClass::Perm, code, text) };
    }
    let more = (exit.class() == ExitClass::OutOfGas).then(|| gas_limit.saturating_add(gas_limit / 2));
    let gas_limit_min = more.max(message.tries.gas_limit_min);
    // It is sent alone from now on, so that it cannot harm others.
    let tries = Tries { failures, gas_limit_min, refused_epoch: None, batch_max: Some(1) };
    Followed::Again { exit: exit_code, error: ErrorReport::new(ErrorClass::Temp, code, text), tries }
}

/// The error code for a message that the chain refuses because of its content, not because of its fees.
pub const fn refusal(kind: MessageKind) -> ErrorCode {
    match kind {
        MessageKind::PreCommit | MessageKind::Filler => ErrorCode::PRECOMMIT_REFUSED,
        MessageKind::ProveCommit => ErrorCode::PROVE_COMMIT_REFUSED,
        MessageKind::Errand => ErrorCode::ERRAND_REFUSED,
    }
}

/// The name and details, in a sector's history, of an input from the chain or a store.
pub fn told(input: &Input) -> (&'static str, Value) {
    match input {
        Input::Refused(error) => ("refused", error_detail(error)),
        Input::Answer(answer) => workflows::told(answer),
        _ => ("chain", json!({})),
    }
}

#[cfg(test)]
mod tests;

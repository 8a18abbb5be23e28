//! What becomes of messages, whatever they are for. Pure: the driver asks the node and stores what follows, the simulation
//! does the same with a chain of its own.

use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, machine::manager::Life, workflows::Input};
use serde_json::{Value, json};

use crate::{
    chain::exit::{ExitClass, ExitCode},
    store::{Job, Message, MessageKind, Tries},
    workflows::{self, Known, Now, Question, Wanted, error_detail},
};

/// How many messages may be executed in vain for one purpose before a person must look. Each costs its gas.
pub const FAILURES_MAX: u32 = 4;
/// For how many epochs a node must refuse to estimate a message before that counts. It tries the message on what its message pool
/// follows, which may be behind the head.
pub const REFUSAL_EPOCHS: i64 = 5;

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

/// What to do about a message that is not signed yet.
pub fn wanted(message: &Message, job: &Job, now: &Now, known: &Known) -> Result<Wanted, Question> {
    let is_over = job.blocked.is_none() && job.state.traits().life != Life::Going;
    if is_over || message.attempt != job.attempt {
        // The present attempt has a row of its own, and nothing of this one can be anywhere.
        return Ok(Wanted::Over("the attempt that wanted it is over"));
    }
    workflows::wanted(message, job, now, known)
}

impl Now {
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
        if !sector.is_some_and(|sector| workflows::awaits(message.kind, sector)) {
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
}

/// Whether a job stands as it stood then: meanwhile it may have been given up, released or blocked.
pub fn stands_as(then: &Job, now: Option<&Job>) -> bool {
    now.is_some_and(|now| now.attempt == then.attempt && now.standing() == then.standing())
}

/// Whether nobody wants what a signed message would do: its sector was given up, has begun another attempt, or needs another
/// proof than the one in it.
pub fn unwanted(message: &Message, sector: &Job) -> bool {
    let given_up = matches!(sector.state.traits().life, Life::Leaving | Life::GivenUp);
    given_up || message.attempt != sector.attempt || !workflows::has_use_for(message.kind, sector)
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
    match input {
        Input::Refused(error) => ("refused", error_detail(error)),
        Input::Answer(answer) => workflows::told(answer),
        _ => ("chain", json!({})),
    }
}

#[cfg(test)]
mod tests;

//! Errors as they are reported: a class, a stable code, and what a person needs to act.
//!
//! The class decides what happens. It is chosen where the error arises, never derived from a text later.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use crate::phase::Phase;

/// How many bytes of a child's last stderr output are sent with an error.
pub const MAX_STDERR_TAIL_BYTES: usize = 8 * 1024;

/// How many causes are sent with an error, and how many bytes each may have.
const MAX_CAUSES: usize = 16;
const MAX_CAUSE_BYTES: usize = 2 * 1024;

/// The most bytes in the single message of a brief report.
const MAX_BRIEF_BYTES: usize = 512;

/// What happens after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Transient, or harmless to repeat: retried at most `max_retries` times, with growing pauses from
    /// `recover_interval` on.
    Temp,
    /// Sealing itself failed: the slot blocks until a person decides.
    Perm,
    /// The environment is at fault: file system, disk, missing parameters. The slot, or all slots of its disk, block.
    Crit,
    /// The attempt is worthless: its progress is dropped and the slot is cleaned.
    Abort,
    /// A class of a newer version. Treated as [`ErrorClass::Perm`]: a person decides.
    #[serde(other)]
    Unknown,
}

/// The stable name of a kind of error. Each has a page in `docs/errors/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorCode(Cow<'static, str>);

/// How a child process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It exited with this status.
    Status(i32),
    /// It was ended by this signal.
    Signal(i32),
}

/// An error as it is stored and shown, with everything that a person needs without logging in to the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// Decides what happens next.
    pub class: ErrorClass,
    /// The kind of error.
    pub code: ErrorCode,
    /// The messages, from the outermost to the root cause.
    pub causes: Vec<String>,
    /// The phase in which it arose, if any.
    #[serde(default)]
    pub phase: Option<Phase>,
    /// The try of the phase that failed, from 1; 0 outside a phase.
    #[serde(default)]
    pub attempt: u32,
    /// The machine's host name.
    #[serde(default)]
    pub host: String,
    /// The slot's directory, if a slot was involved.
    #[serde(default)]
    pub slot: String,
    /// The processor's name, if one was involved.
    #[serde(default)]
    pub processor: Option<String>,
    /// How the processor ended, if it did.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// The last lines of the processor's stderr.
    #[serde(default)]
    pub stderr_tail: String,
}

/// Declares each code once: its constant, its usual class, and a line for people.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $class:ident;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: ErrorCode = ErrorCode(Cow::Borrowed(stringify!($name)));)*

            /// Every code that Sealbus itself uses, with its usual class.
            pub const ALL: &'static [(ErrorCode, ErrorClass)] =
                &[$((ErrorCode::$name, ErrorClass::$class)),*];
        }
    };
}

codes! {
    /// A disk has no room left.
    DISK_FULL Crit;
    /// A file or directory could not be read or written.
    IO_FAILED Crit;
    /// A file of an earlier phase is missing.
    INPUT_MISSING Perm;
    /// A file of an earlier phase has another size, or belongs to another sector, ticket or seed.
    INPUT_MISMATCH Perm;
    /// A file operation was interrupted, or took too long.
    IO_TIMED_OUT Temp;
    /// A slot's journal cannot be read.
    JOURNAL_UNREADABLE Crit;
    /// A slot's journal is out of date: more was reported under its token than it contains.
    JOURNAL_BEHIND Crit;
    /// The stream of the sectors' logs was created anew, so the tokens in journals are meaningless.
    QUEUE_REPLACED Crit;
    /// The log does not say who owns a sector: it was claimed without an offer, and the manager has not answered yet.
    LEASE_DISPUTED Temp;
    /// A slot's directory cannot be used.
    SLOT_UNUSABLE Crit;
    /// A slot's directory, or the sector in it, belongs to another worker.
    SLOT_OF_ANOTHER_WORKER Crit;
    /// Groth16 parameters are missing or damaged.
    PARAMS_MISSING Crit;
    /// The proofs library returned an error.
    PROOFS_FAILED Perm;
    /// The proofs library panicked.
    LIBRARY_PANIC Perm;
    /// The staged data does not match the pieces.
    COMM_D_MISMATCH Perm;
    /// PC2's result fails verification.
    COMM_R_MISMATCH Perm;
    /// A proof does not verify.
    PROOF_INVALID Perm;
    /// An intent asks for a kind of piece that this version cannot stage.
    PIECE_UNSUPPORTED Abort;
    /// A request to a processor is malformed.
    REQUEST_INVALID Perm;
    /// A processor could not be started.
    PROCESSOR_START_FAILED Crit;
    /// A processor died in the middle of a request.
    PROCESSOR_DIED Temp;
    /// A processor did not answer in time.
    PROCESSOR_TIMED_OUT Temp;
    /// A processor violated its protocol.
    PROCESSOR_PROTOCOL Perm;
    /// An executable made for damocles answered with an error.
    PROCESSOR_REFUSED Perm;
    /// The permanent store is not reachable or not writable.
    STORE_UNAVAILABLE Temp;
    /// The permanent store has no room left.
    STORE_FULL Crit;
    /// The permanent store already holds other data under the sector's name.
    STORE_CONFLICT Perm;
    /// A file in the permanent store reads back differently from what was written.
    CHECKSUM_MISMATCH Temp;
    /// The manager cannot read the sector's files in the permanent store, or they fail a challenge.
    FILES_UNPROVABLE Perm;
    /// The ticket is too old for a PreCommit.
    TICKET_EXPIRED Abort;
    /// The time for proving the PreCommit has run out.
    PRECOMMIT_EXPIRED Perm;
    /// The chain refused the PreCommit.
    PRECOMMIT_REFUSED Perm;
    /// The chain refused the ProveCommit.
    PROVE_COMMIT_REFUSED Perm;
    /// A message ran out of gas again and again, each time with a higher limit.
    MESSAGE_OUT_OF_GAS Perm;
    /// Another message of the same sender used a message's nonce.
    NONCE_USED Temp;
    /// A message landed but had no effect.
    MESSAGE_WITHOUT_EFFECT Perm;
    /// The sector's number is already used on chain.
    NUMBER_TAKEN Perm;
    /// A person gave the sector up.
    ABANDONED Abort;
    /// A sector was offered too often without being finished.
    REISSUED_TOO_OFTEN Perm;
    /// A worker reported something that its state does not allow.
    PROTOCOL_VIOLATED Perm;
    /// The chain node does not answer, or its answers are unusable.
    NODE_UNAVAILABLE Temp;
    /// The chain node's head does not move, or is old.
    NODE_BEHIND Temp;
    /// The chain node does not let the manager do what it must.
    NODE_ACCESS_DENIED Crit;
    /// The chain node answers, but cannot do this one thing now.
    NODE_CALL_FAILED Temp;
    /// The messager does not answer, or its answers are unusable.
    MESSAGER_UNAVAILABLE Temp;
    /// The messager does not take what must be sent.
    MESSAGER_REFUSES Crit;
    /// The network has a version or constants that this release cannot work with.
    NETWORK_UNSUPPORTED Crit;
    /// There are too few funds for a message, its gas, or what the chain locks with it.
    FUNDS_MISSING Crit;
    /// The configured fee limit is too low for the chain to accept a message.
    FEE_LIMIT_TOO_LOW Crit;
    /// The base fee is above what a pushed message may pay.
    BASE_FEE_TOO_HIGH Temp;
    /// A message waits for others, to share one with them.
    MESSAGE_HELD Temp;
    /// A window PoSt is late, so sectors may become faulty.
    POST_AT_RISK Temp;
    /// A miner's blocks are lost, or would be if it won now.
    BLOCKS_AT_RISK Temp;
    /// The chain refused a message that a person or a policy asked for.
    ERRAND_REFUSED Perm;
    /// A pushed message has waited unusually long for inclusion in a block.
    MESSAGE_PENDING Temp;
    /// The node's wallet does not sign for the sender.
    WALLET_KEY_MISSING Crit;
    /// The configured sender is not an address of the miner.
    SENDER_NOT_ALLOWED Crit;
    /// The manager has no right to read the permanent store.
    STORE_UNREADABLE Crit;
    /// The configured sector numbers are used up.
    NUMBERS_USED_UP Crit;
    /// The configuration asks for what the manager, the chain or the queue cannot do.
    CONFIGURATION_WRONG Crit;
    /// The database refused a row, or has one that cannot be read.
    RECORD_REFUSED Crit;
    /// The manager's database was restored from a backup and has not caught up yet.
    RESTORED Temp;
    /// NATS does not accept what must be published.
    BUS_UNAVAILABLE Temp;
    /// The stream of the sectors' logs is full, or nearly so. When it is full, no report or answer can be stored.
    BUS_FULL Crit;
}

impl ErrorClass {
    /// The class's name in headers and tables.
    pub const fn name(self) -> &'static str {
        match self {
            ErrorClass::Temp => "temp",
            ErrorClass::Perm => "perm",
            ErrorClass::Crit => "crit",
            ErrorClass::Abort => "abort",
            ErrorClass::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ErrorCode {
    /// A code from outside, for example from an external processor. Characters other than `A-Z`, `0-9` and `_` become
    /// `_`, because the code is used in headers and as a file name.
    pub fn from_text(text: &str) -> ErrorCode {
        let tidy: String = text
            .chars()
            .take(64)
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        ErrorCode(Cow::Owned(if tidy.is_empty() { "UNNAMED".to_owned() } else { tidy }))
    }

    /// Whether the condition ends by itself and is not the phase's fault. It is waited for, however long that takes,
    /// and never counts as a failed try.
    pub fn is_waited_for(&self) -> bool {
        *self == ErrorCode::STORE_UNAVAILABLE
    }

    /// A code as a label: `OTHER` for those that only somebody else's executables know, so that there are never many.
    pub fn known(code: &str) -> &str {
        if ErrorCode::ALL.iter().any(|(known, _)| known.as_str() == code) { code } else { "OTHER" }
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "exit status {status}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl ErrorReport {
    /// A report with a single message and no details of a machine.
    pub fn new(class: ErrorClass, code: ErrorCode, message: impl Into<String>) -> ErrorReport {
        ErrorReport {
            class,
            code,
            causes: vec![message.into()],
            phase: None,
            attempt: 0,
            host: String::new(),
            slot: String::new(),
            processor: None,
            exit: None,
            stderr_tail: String::new(),
        }
    }

    /// A report with an error's whole cause chain.
    pub fn from_error(class: ErrorClass, code: ErrorCode, error: &dyn std::error::Error) -> ErrorReport {
        let mut report = ErrorReport::new(class, code, error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            report.causes.push(cause.to_string());
            source = cause.source();
        }
        report
    }

    /// The report, cut to the size limits: the first causes, and the end of the child's stderr.
    pub fn bounded(mut self) -> ErrorReport {
        self.causes.truncate(MAX_CAUSES);
        for cause in &mut self.causes {
            cut_front_to(cause, MAX_CAUSE_BYTES);
        }
        cut_back_to(&mut self.stderr_tail, MAX_STDERR_TAIL_BYTES);
        self
    }

    /// The report in short form, for lists: all messages joined into one truncated line, without stderr.
    pub fn brief(&self) -> ErrorReport {
        let mut message = self.message();
        cut_front_to(&mut message, MAX_BRIEF_BYTES);
        ErrorReport { causes: vec![message], stderr_tail: String::new(), ..self.clone() }
    }

    /// All messages, joined into one line.
    pub fn message(&self) -> String {
        self.causes.join(": ")
    }
}

/// Keeps the beginning of a text.
fn cut_front_to(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
    }
}

/// Keeps the end of a text.
fn cut_back_to(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let start = (text.len() - bytes..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
        text.drain(..start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_with_endless_words_still_fits_a_message() {
        let mut report = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOFS_FAILED, "ü".repeat(100_000));
        report.causes.extend((0..1000).map(|i| i.to_string()));
        report.stderr_tail = format!("{}the end", "é".repeat(100_000));
        let report = report.bounded();
        assert!(report.stderr_tail.ends_with("the end"));
        assert!(crate::codec::encode(&report).expect("fits").len() < crate::codec::MAX_MESSAGE_BYTES);
    }

    #[test]
    fn a_hundred_brief_reports_fit_one_message() {
        let mut report = ErrorReport::new(ErrorClass::Crit, ErrorCode::IO_FAILED, "x".repeat(5000));
        report.causes.push("y".repeat(5000));
        report.stderr_tail = "z".repeat(5000);
        assert!(crate::codec::encode(&vec![report.brief(); 100]).is_ok());
        assert!(report.brief().message().starts_with("xxx"));
    }

    #[test]
    fn a_class_of_a_newer_version_is_read_as_unknown() {
        assert_eq!(serde_json::from_str::<ErrorClass>("\"solar_flare\"").expect("reads"), ErrorClass::Unknown);
    }

    #[test]
    fn a_foreign_code_becomes_a_safe_name() {
        assert_eq!(ErrorCode::from_text("../gpu lost!").as_str(), "___GPU_LOST_");
        assert_eq!(ErrorCode::from_text("").as_str(), "UNNAMED");
    }

    #[test]
    fn the_cause_chain_is_kept_in_order() {
        let inner = std::io::Error::other("inner");
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let report = ErrorReport::from_error(ErrorClass::Crit, ErrorCode::IO_FAILED, &Outer(inner));
        assert_eq!(report.message(), "outer: inner");
    }
}

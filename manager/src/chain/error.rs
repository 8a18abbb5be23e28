//! How a call to the node can fail.
//!
//! Two questions decide what a caller does next. May the same call succeed later ([`Error::is_transient`])? And may the
//! node have acted although the call failed ([`Error::outcome_unknown`])? After a push with an unknown outcome the
//! nonce is taken: only the same bytes may be sent again.

use std::path::PathBuf;
use std::time::Duration;

use super::exit::{ExitClass, ExitCode};

/// The most bytes of a node's message that are kept in an error; a node may quote a whole proof.
const MESSAGE_BYTES_MAX: usize = 4096;

/// `OutOfGas` of Lotus (`api/api_errors.go`). Its codes 3 and 11, for an abort and a missing actor, were swapped
/// between releases, and Forest has one code for all refusals. So this is the only code that is used; otherwise the
/// text decides.
const CODE_OUT_OF_GAS: i64 = 2;

/// An underlying error, boxed so that a test double can make one too.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a message pool refuses a message. It is derived from the texts of Lotus, Venus and Forest, which only this file
/// interprets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushRefusal {
    /// The pool already has exactly this message.
    Known,
    /// The nonce is used on chain.
    NonceUsed,
    /// Another message with this nonce is in the pool.
    NonceTaken {
        /// The least premium that replaces it, in attoFIL, if the node reports it.
        premium_min_atto: Option<u128>,
    },
    /// The fee cap is below the network's minimum.
    FeeCapTooLow,
    /// The sender cannot pay.
    NotEnoughFunds,
    /// Too many earlier nonces are missing.
    NonceGap,
    /// The sender has too many messages in the pool.
    PoolFull,
    /// Anything else.
    Other,
}

/// A failed call to the Filecoin node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint's address is unusable. A person must correct the configuration.
    #[error("the node's url `{url}` cannot be used: {reason}")]
    BadUrl {
        /// The address without credentials, or a placeholder if it could not be parsed.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The HTTP client could not be created (TLS setup).
    #[error("cannot set up the HTTP client for the node at {url}")]
    Client {
        /// Address of the node.
        url: String,
        /// What failed.
        source: Source,
    },
    /// The token file cannot be read.
    #[error("cannot read the node's token file {}", path.display())]
    TokenUnreadable {
        /// The configured file.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The token file contains no usable token.
    #[error("the node's token file {} holds no token: {reason}", path.display())]
    TokenMalformed {
        /// The configured file.
        path: PathBuf,
        /// What is wrong. Never contains the file's content.
        reason: &'static str,
    },
    /// No connection could be made, so the request was not sent.
    #[error("cannot reach the node at {url}")]
    Unreachable {
        /// Address of the node.
        url: String,
        /// What failed.
        source: Source,
    },
    /// The connection broke after the request may have been sent.
    #[error("lost the connection to the node at {url} during {method}")]
    ConnectionLost {
        /// Address of the node.
        url: String,
        /// The method, without prefix.
        method: &'static str,
        /// What failed.
        source: Source,
    },
    /// There was no complete answer within the limit.
    #[error("the node at {url} did not answer {method} within {limit:?}")]
    TimedOut {
        /// Address of the node.
        url: String,
        /// The method, without prefix.
        method: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The HTTP status was not a success, and the body had no JSON-RPC error.
    #[error("the node at {url} answered {method} with HTTP status {status}")]
    Http {
        /// Address of the node.
        url: String,
        /// The method, without prefix.
        method: &'static str,
        /// The status code.
        status: u16,
    },
    /// The token is missing, wrong, or lacks the permission that the method needs. A person must act.
    #[error("the node at {url} does not let us call {method} ({}): {message}", token_words(token_file.as_ref()))]
    Unauthorized {
        /// Address of the node.
        url: String,
        /// The method, without prefix.
        method: &'static str,
        /// The token's file; `None` if calls are made without a token.
        token_file: Option<PathBuf>,
        /// What the node said.
        message: String,
    },
    /// The node does not know the method, because it is too old or another implementation.
    #[error("the node at {url} has no method {method}")]
    MethodNotFound {
        /// Address of the node.
        url: String,
        /// The method, without prefix.
        method: &'static str,
    },
    /// The node understood the call and refused it. Asking again at the same chain state gives the same answer.
    #[error("the node refused {method}: {} (code {code})", in_one_line(message))]
    Refused {
        /// The method, without prefix.
        method: &'static str,
        /// The code of the JSON-RPC error.
        code: i64,
        /// The node's message, with all its lines, shortened.
        message: String,
    },
    /// No node can be used. Nothing was sent.
    #[error("no chain node can be used: {nodes}")]
    NoNodeWell {
        /// Each node, and why not.
        nodes: String,
        /// Whether all of them are on another network than the manager's sectors. A person must act.
        is_other_network: bool,
    },
    /// The answer violates the method's contract.
    #[error("the node's answer to {method} is wrong: {what}")]
    BadAnswer {
        /// The method, without prefix.
        method: &'static str,
        /// The field, or what is wrong.
        what: String,
    },
    /// The answer is larger than the limit of the endpoint; reading stopped there.
    #[error("the node's answer to {method} is larger than {limit_bytes} bytes")]
    AnswerTooLarge {
        /// The method, without prefix.
        method: &'static str,
        /// The limit.
        limit_bytes: usize,
    },
}

impl Error {
    /// A refusal, with the node's message shortened.
    pub fn refused(method: &'static str, code: i64, message: &str) -> Self {
        Self::Refused { method, code, message: shortened(message) }
    }

    /// An answer that violates the method's contract.
    pub fn bad_answer(method: &'static str, what: impl std::fmt::Display) -> Self {
        Self::BadAnswer { method, what: shortened(&what.to_string()) }
    }

    /// Whether the network or the node's load is at fault, so that the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::ConnectionLost { .. } | Self::TimedOut { .. } => true,
            Self::Http { status, .. } => *status >= 500 || matches!(status, 408 | 425 | 429),
            Self::NoNodeWell { is_other_network, .. } => !is_other_network,
            _ => false,
        }
    }

    /// Whether a person must change a configuration, a token or the node.
    pub fn needs_person(&self) -> bool {
        match self {
            Self::BadUrl { .. }
            | Self::Client { .. }
            | Self::TokenUnreadable { .. }
            | Self::TokenMalformed { .. }
            | Self::Unauthorized { .. }
            | Self::MethodNotFound { .. } => true,
            Self::Http { .. } => !self.is_transient(),
            Self::NoNodeWell { is_other_network, .. } => *is_other_network,
            _ => false,
        }
    }

    /// Whether the node may have carried out the call although it failed here: a pushed message may be in its pool.
    ///
    /// False only if the request was certainly not sent, or the node certainly refused it.
    pub fn outcome_unknown(&self) -> bool {
        match self {
            Self::ConnectionLost { .. }
            | Self::TimedOut { .. }
            | Self::BadAnswer { .. }
            | Self::AnswerTooLarge { .. } => true,
            // A gateway answers 5xx if the node accepted the request and did not answer in time.
            Self::Http { status, .. } => *status >= 500 || *status == 408,
            // The pool has the message, and only publishing it to other nodes failed (Lotus `messagepool.Push`).
            Self::Refused { .. } => self.refusal_says(&["error publishing message"]) || self.is_nonce_in_mempool(),
            _ => false,
        }
    }

    /// The actor's exit code, if the trial execution of a message aborted.
    ///
    /// Only gas estimates and calls report one, as text: `(RetCode=16)` or `exit ErrIllegalArgument(16)`.
    pub fn exit_code(&self) -> Option<ExitCode> {
        match self {
            Self::Refused { code, message, .. } => match exit_code_in(message) {
                Some(code) => Some(ExitCode::from(code)),
                None if *code == CODE_OUT_OF_GAS => Some(ExitCode::OutOfGas),
                None => None,
            },
            _ => None,
        }
    }

    /// Whether the address has no actor on chain.
    pub fn is_actor_not_found(&self) -> bool {
        self.exit_code().is_none() && self.refusal_says(&["actor not found", "resolution lookup failed"])
    }

    /// Whether the requested epoch has no tipset.
    pub fn is_null_round(&self) -> bool {
        self.refusal_says(&["null round"])
    }

    /// Whether exactly the pushed message is already in the pool, so an earlier push succeeded.
    ///
    /// For another message with the same nonce, Lotus and Venus begin with the same words and then mention the premium.
    pub fn is_already_in_mpool(&self) -> bool {
        self.refusal_says(&["already in mpool"]) && !self.is_nonce_taken_by_another()
    }

    /// Whether another message with the same nonce is in the pool, and this one's premium is too low to replace it.
    pub fn is_nonce_taken_by_another(&self) -> bool {
        self.refusal_says(&["replace by fee", "increase gaspremium"])
    }

    /// Whether a message with the same nonce is in the pool, and the node (Forest) does not say if it is the pushed
    /// one.
    pub fn is_nonce_in_mempool(&self) -> bool {
        self.refusal_says(&["already in mempool"])
    }

    /// Whether the nonce is used on chain: the message landed or was replaced. A search tells which.
    pub fn is_nonce_too_low(&self) -> bool {
        self.refusal_says(&["nonce too low", "sequence too low"])
    }

    /// Whether the search found another message with the same nonce.
    ///
    /// Lotus answers this if the other message is a different call. If it is the same call with another fee, Lotus
    /// returns that message instead.
    pub fn is_replaced(&self) -> bool {
        self.refusal_says(&["message was replaced", "found message with equal nonce"])
    }

    /// Whether the sender is not on chain, or not an account.
    pub fn is_sender_unknown(&self) -> bool {
        self.refusal_says(&["sender validation failed"]) || self.is_actor_not_found()
    }

    /// Whether the sender cannot pay for the pushed message or, according to a trial execution, its value.
    pub fn is_not_enough_funds(&self) -> bool {
        self.exit_code().map_or_else(
            || self.refusal_says(&["not enough funds", "insufficient funds"]),
            |exit| exit.class() == ExitClass::Funds,
        )
    }

    /// Whether the wallet lacks the key.
    pub fn is_key_missing(&self) -> bool {
        self.refusal_says(&["key not found", "key info not found", "no such key", "wallet does not have"])
    }

    /// Why the pool refused a message, if it said so. `None` if the network or the node is at fault.
    pub fn push_refusal(&self) -> Option<PushRefusal> {
        let Self::Refused { message, .. } = self else { return None };
        Some(if self.is_nonce_too_low() {
            PushRefusal::NonceUsed
        } else if self.is_nonce_taken_by_another() {
            PushRefusal::NonceTaken { premium_min_atto: premium_in(message) }
        } else if self.is_already_in_mpool() {
            PushRefusal::Known
        } else if self.is_nonce_in_mempool() {
            PushRefusal::NonceTaken { premium_min_atto: None }
        } else if self.refusal_says(&["fee cap too low", "gas price too low"]) {
            PushRefusal::FeeCapTooLow
        } else if self.is_not_enough_funds() {
            PushRefusal::NotEnoughFunds
        } else if self.refusal_says(&["nonce gap", "sequence gap"]) {
            PushRefusal::NonceGap
        } else if self.refusal_says(&["too many pending"]) {
            PushRefusal::PoolFull
        } else {
            PushRefusal::Other
        })
    }

    /// Whether the randomness is of an epoch that the node's head has not reached.
    pub fn is_from_the_future(&self) -> bool {
        self.refusal_says(&["randomness from the future"])
    }

    /// Whether this node's store lacks the searched message, so that the node cannot say if it landed.
    pub fn is_message_unknown(&self) -> bool {
        self.refusal_says(&["failed to load message", "message not found"])
    }

    fn refusal_says(&self, texts: &[&str]) -> bool {
        match self {
            Self::Refused { message, .. } => {
                let message = message.to_ascii_lowercase();
                texts.iter().any(|text| message.contains(text))
            }
            _ => false,
        }
    }
}

fn token_words(token_file: Option<&PathBuf>) -> String {
    match token_file {
        Some(path) => format!("token file {}", path.display()),
        None => "no token file configured".to_owned(),
    }
}

/// A node's text, joined into one line. Lotus puts the cause on the last line, which would be lost where one line is
/// shown.
fn in_one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The beginning and the end of a long text: a node may quote a whole proof before the cause.
fn shortened(message: &str) -> String {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX / 2);
    let again = message.ceil_char_boundary(message.len() - MESSAGE_BYTES_MAX / 2);
    format!("{} … ({} bytes in all) … {}", &message[..end], message.len(), &message[again..])
}

/// The first number in Lotus' "increase GasPremium to 330001 from 100690 to trigger replace by fee".
fn premium_in(message: &str) -> Option<u128> {
    let (_, rest) = message.split_once("increase GasPremium to ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Finds the exit code in a node's text: `RetCode=16`, `exit=[ErrNotFound(17)]`, `exit ErrForbidden(18), reason: …`,
/// `exit code 19`.
fn exit_code_in(message: &str) -> Option<u32> {
    for (marker, end) in [
        ("RetCode=", &[')', ',', ' '][..]),
        ("exit=[", &[']']),
        ("exit code", &[',', ';', '\n']),
        ("exit ", &[',', ';', '\n']),
    ] {
        let Some((_, rest)) = message.split_once(marker) else {
            continue;
        };
        let phrase = rest.split(end).next().unwrap_or_default();
        let digits = phrase.trim_end_matches(|c: char| !c.is_ascii_digit());
        let start = digits.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
        if let Ok(code) = digits[start..].parse() {
            return Some(code);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

//! What a message can wait for, although the node answers and nothing is broken.
//!
//! Each reason says what a person can do. No reason is final: the next tick asks again.

use super::exit::ExitCode;
use super::fees;
use super::types::Epoch;

/// Why a message is not signed, not accepted by the pool, or not landed yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitReason {
    /// The operator's fee limit is too low, in general or for the present base fee.
    #[error("{what} is not signed")]
    Fee {
        /// The message.
        what: String,
        /// The details.
        source: fees::Error,
    },
    /// It is signed, but the base fee has risen above its fee cap.
    #[error(
        "{what} may pay {fee_cap_atto} attoFIL a unit of gas, the base fee is {base_fee_atto}: it waits until the base fee falls, \
         or is signed again for more when chain.max_fee_atto allows it"
    )]
    BaseFeeAboveCap {
        /// The message.
        what: String,
        /// Its fee cap.
        fee_cap_atto: String,
        /// The base fee.
        base_fee_atto: String,
    },
    /// The base fee is higher than the operator wants to pay, and there is time to wait.
    #[error(
        "{what} waits for a base fee of at most chain.fees.base_fee_wait_atto = {wanted_atto}; it is {base_fee_atto} attoFIL{}",
        until.map(|epoch| format!(". It is sent from epoch {epoch} on in any case")).unwrap_or_default()
    )]
    BaseFeeHigh {
        /// The message.
        what: String,
        /// The present base fee.
        base_fee_atto: String,
        /// The highest one that the operator wants to pay.
        wanted_atto: String,
        /// From which epoch on the message is urgent.
        until: Option<i64>,
    },
    /// It waits for others, to share a message with them.
    #[error(
        "{what} waits for others: {with} of {most} are there. They are sent at epoch {until} in any case, or after `messages flush`"
    )]
    Batch {
        /// The message.
        what: String,
        /// How many wait.
        with: usize,
        /// How many make a message full.
        most: usize,
        /// From which epoch on they are sent in any case.
        until: Epoch,
    },
    /// The proofs of several sectors are being aggregated.
    #[error("the proof of {what} is being aggregated with those of {with} sectors in all")]
    Aggregation {
        /// The message.
        what: String,
        /// The number of sectors.
        with: usize,
    },
    /// The sender or the miner cannot pay.
    #[error("{what} waits for funds of {who}: {said}")]
    NotEnoughFunds {
        /// The message.
        what: String,
        /// The sender or the miner.
        who: String,
        /// What the node said.
        said: String,
    },
    /// The sender has no account on chain.
    #[error("{what} cannot be sent by {sender}, which is not on chain: send it funds first ({said})")]
    SenderNotOnChain {
        /// The message.
        what: String,
        /// The sender.
        sender: String,
        /// What the node said.
        said: String,
    },
    /// The node's wallet lacks the sender's key.
    #[error(
        "neither chain.key_files nor the node's wallet has the key of {sender}: import it, or set sender of the miner ({said})"
    )]
    WalletWithoutKey {
        /// The sender.
        sender: String,
        /// What the node said.
        said: String,
    },
    /// The node's pool has another message with this nonce.
    #[error(
        "another message of {sender} with nonce {nonce} is in the node's pool; whichever lands decides, and ours is signed again if \
         it is not ours ({said})"
    )]
    NonceTaken {
        /// The sender.
        sender: String,
        /// The nonce.
        nonce: u64,
        /// What the node said.
        said: String,
    },
    /// Earlier nonces are missing.
    #[error("{what} waits behind messages of {sender} that the node's pool lacks ({said})")]
    NonceGap {
        /// The message.
        what: String,
        /// The sender.
        sender: String,
        /// What the node said.
        said: String,
    },
    /// An earlier message for the same purpose may still land.
    #[error("{what} waits until it is certain that {earlier} can no longer land")]
    EarlierMessage {
        /// The message.
        what: String,
        /// The earlier message.
        earlier: String,
    },
    /// The PreCommit is not (or not yet again) at the epoch that the proof was made for.
    #[error("{what} is for the PreCommit of epoch {known}, which is no longer at that epoch (head {head})")]
    PreCommitMoved {
        /// The message.
        what: String,
        /// The PreCommit's epoch that the proof was made for.
        known: Epoch,
        /// The head's epoch.
        head: Epoch,
    },
    /// The pool is full, or refuses for another reason.
    #[error("the node's pool does not take {what}: {said}")]
    PoolRefuses {
        /// The message.
        what: String,
        /// What the node said.
        said: String,
    },
    /// The messager has not signed it yet.
    #[error("{what} is {uid} at the messager, {said}")]
    WithMessager {
        /// The message.
        what: String,
        /// Its id at the messager.
        uid: String,
        /// How far it is there.
        said: String,
    },
    /// The messager cannot send it until a person acts.
    #[error("{what} waits for the messager: {said}")]
    MessagerNeeds {
        /// The message.
        what: String,
        /// What is missing, and how to mend it.
        said: String,
    },
    /// A trial execution was refused, perhaps only for now.
    #[error(
        "the node has been refusing {what} since epoch {since} with exit code {exit}; that counts if it still refuses at epoch {until}: {said}"
    )]
    RefusedForNow {
        /// The message.
        what: String,
        /// The exit code.
        exit: ExitCode,
        /// The epoch of the first such refusal.
        since: Epoch,
        /// The epoch from which on the refusal counts.
        until: Epoch,
        /// What the node said.
        said: String,
    },
}

impl WaitReason {
    /// A short and stable name, for people and scripts.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fee { source: fees::Error::MaxFeeTooLow { .. }, .. } => "MaxFeeTooLow",
            Self::Fee { source: fees::Error::BaseFeeAboveCap { .. }, .. } | Self::BaseFeeAboveCap { .. } => {
                "BaseFeeAboveCap"
            }
            Self::BaseFeeHigh { .. } => "BaseFeeHigh",
            Self::Batch { .. } => "Batch",
            Self::Aggregation { .. } => "Aggregation",
            Self::Fee { .. } => "FeeUnusable",
            Self::NotEnoughFunds { .. } => "NotEnoughFunds",
            Self::SenderNotOnChain { .. } => "SenderNotOnChain",
            Self::WalletWithoutKey { .. } => "WalletWithoutKey",
            Self::NonceTaken { .. } => "NonceTaken",
            Self::NonceGap { .. } => "NonceGap",
            Self::EarlierMessage { .. } => "EarlierMessage",
            Self::PreCommitMoved { .. } => "PreCommitMoved",
            Self::PoolRefuses { .. } => "PoolRefuses",
            Self::WithMessager { .. } => "WithMessager",
            Self::MessagerNeeds { .. } => "MessagerNeeds",
            Self::RefusedForNow { .. } => "RefusedForNow",
        }
    }
}

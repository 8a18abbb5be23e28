//! Errands: messages that a person, or a policy of the configuration, asks for.
//!
//! Everything about an errand is fixed when it is asked for: its sender, receiver, method, parameters and value. Here
//! it is decided what these are. All of it is pure; [`Draft`] is the outcome.
//!
//! - [`money`]: withdraw, repay a debt.
//! - [`keys`]: worker and control addresses, both steps of a change of the worker.
//! - [`owner`]: both steps of a change of the owner; the beneficiary.
//! - [`peer`]: peer id and multiaddresses. [`create`]: a new miner.
//! - [`forecast`]: what the sectors on their way need.
//! - [`sectors`]: what [`crate::care`] has planned.

use fvm_ipld_encoding::{RawBytes, to_vec};
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::MinerId;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    chain::{message, message::Message, types::Epoch},
    store::NewErrand,
};

pub mod create;
pub mod desk;
pub mod fil;
pub mod forecast;
pub mod keys;
pub mod money;
pub mod outcome;
pub mod owner;
pub mod peer;
pub mod purse;
pub mod sectors;

/// A message that somebody may ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The miner that it is about. `None` if there is no such miner yet.
    pub miner: Option<MinerId>,
    /// What it is, as stored: `withdraw`, `extend`, …
    pub kind: &'static str,
    /// The sender's role, in words.
    pub role: Role,
    /// The sender, as the chain names it: an ID address or a key.
    pub sender: Address,
    /// The receiving actor.
    pub receiver: Address,
    /// Its method.
    pub method: u64,
    /// The method's parameters in CBOR.
    pub params: RawBytes,
    /// What it carries, in attoFIL.
    pub value: TokenAmount,
    /// What it does, in one sentence.
    pub what: String,
    /// What follows, and what to do then.
    pub follows: String,
    /// The same for programs.
    pub detail: Value,
}

/// Whose address sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The owner.
    Owner,
    /// The proposed owner.
    ProposedOwner,
    /// The beneficiary.
    Beneficiary,
    /// The proposed beneficiary.
    ProposedBeneficiary,
    /// The miner's sender according to the configuration, or its worker.
    Sender,
}

/// Why an errand makes no sense. Nothing would be gained by sending it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing can be withdrawn.
    #[error("nothing can be withdrawn: {} FIL are available ({why})", fil::shown(available))]
    NothingAvailable {
        /// What is available.
        available: TokenAmount,
        /// What holds the rest.
        why: String,
    },
    /// More is asked for than is there.
    #[error(
        "--amount: {} FIL are more than the {} FIL that are available; `--all` withdraws what there is",
        fil::shown(wanted),
        fil::shown(available)
    )]
    MoreThanAvailable {
        /// What was asked for.
        wanted: TokenAmount,
        /// What is available.
        available: TokenAmount,
    },
    /// An amount that is not above 0.
    #[error("{field}: must be above 0")]
    NotPositive {
        /// The field.
        field: &'static str,
    },
    /// Terminated sectors' fees are not settled.
    #[error(
        "nothing can be withdrawn until the fees of terminated sectors are settled; the chain does that within some epochs"
    )]
    TerminationsOpen,
    /// The beneficiary's term is over, or its quota used up.
    #[error(
        "the beneficiary {beneficiary} may withdraw nothing more: its quota of {} FIL is used up, or its term ended at epoch {until}",
        fil::shown(quota)
    )]
    QuotaUsedUp {
        /// The beneficiary.
        beneficiary: Address,
        /// Its quota.
        quota: TokenAmount,
        /// The end of its term.
        until: Epoch,
    },
    /// There is no debt.
    #[error("it owes nothing")]
    NoDebt,
    /// It is as wanted already.
    #[error("{field}: it is {value} already")]
    NoChange {
        /// The field.
        field: &'static str,
        /// What it is.
        value: String,
    },
    /// Too many of something.
    #[error("{field}: {count} are more than the {most} that the chain takes")]
    TooMany {
        /// The field.
        field: &'static str,
        /// How many.
        count: usize,
        /// How many at most.
        most: usize,
    },
    /// The same address twice.
    #[error("{field}: {address} is named twice")]
    Twice {
        /// The field.
        field: &'static str,
        /// The address.
        address: Address,
    },
    /// An earlier change is pending, and the actor would silently ignore another one.
    #[error(
        "a change of the worker to {pending} is pending since before; confirm it first (`miners worker confirm`, from epoch {from})"
    )]
    ChangePending {
        /// The next worker.
        pending: Address,
        /// From when it can be confirmed.
        from: Epoch,
    },
    /// There is nothing to confirm.
    #[error("there is nothing to confirm: no change of the {what} is pending")]
    NothingPending {
        /// `worker`, `owner` or `beneficiary`.
        what: &'static str,
    },
    /// It cannot be confirmed yet.
    #[error("the change of the worker to {pending} can be confirmed from epoch {from} on; the head is at {head}")]
    TooEarly {
        /// The next worker.
        pending: Address,
        /// From when it can be confirmed.
        from: Epoch,
        /// The head's epoch.
        head: Epoch,
    },
    /// The key of a worker must be a BLS key, because blocks are signed with it.
    #[error("{field}: {address} is no BLS key (f3…), and a worker must have one")]
    NotBls {
        /// The field.
        field: &'static str,
        /// The address.
        address: Address,
    },
    /// A term that makes no sense.
    #[error("{field}: {problem}")]
    BadTerm {
        /// The field.
        field: &'static str,
        /// What is wrong, and how to correct it.
        problem: String,
    },
    /// Parameters that cannot be encoded. Does not happen with addresses and amounts.
    #[error("the parameters cannot be encoded: {0}")]
    Encode(String),
}

impl Draft {
    /// The unsigned message with the sender's key, without nonce and gas.
    pub fn message(&self, key: Address) -> Message {
        message::unsigned(key, self.receiver, self.method, self.params.clone(), self.value.clone())
    }

    /// The errand that somebody asks for with it.
    pub fn asked_by(&self, name: &str) -> NewErrand {
        let mut detail = self.detail.clone();
        detail["what"] = json!(self.what);
        NewErrand {
            miner: self.miner.unwrap_or(desk::NO_MINER),
            kind: self.kind.to_owned(),
            sender: self.sender.to_string(),
            receiver: self.receiver.to_string(),
            method: self.method,
            params: self.params.bytes().to_vec(),
            value_atto: self.value.atto().to_string(),
            detail,
            asked_by: name.to_owned(),
        }
    }
}

impl Role {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::ProposedOwner => "proposed owner",
            Role::Beneficiary => "beneficiary",
            Role::ProposedBeneficiary => "proposed beneficiary",
            Role::Sender => "sender",
        }
    }
}

/// Parameters in CBOR.
fn encoded(params: &impl Serialize) -> Result<RawBytes, Refusal> {
    to_vec(params).map(RawBytes::new).map_err(|error| Refusal::Encode(error.to_string()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::chain::types::MinerInfo;

    pub(crate) const MINER: MinerId = MinerId(1000);

    pub(crate) fn id(number: u64) -> Address {
        Address::new_id(number)
    }

    /// A miner with owner f0100, worker f0101 and control address f0102.
    pub(crate) fn info() -> MinerInfo {
        serde_json::from_value(serde_json::json!({
            "Owner": "f0100", "Worker": "f0101", "NewWorker": "<empty>", "ControlAddresses": ["f0102"],
            "WorkerChangeEpoch": -1, "PeerId": null, "Multiaddrs": null, "WindowPoStProofType": 8,
            "SectorSize": 34359738368_u64, "WindowPoStPartitionSectors": 2349, "ConsensusFaultElapsed": -1,
            "PendingOwnerAddress": null, "Beneficiary": "f0100", "PendingBeneficiaryTerm": null,
        }))
        .expect("reads")
    }

    #[test]
    fn a_draft_is_a_message_of_the_key_that_sends_it() {
        let draft = owner::propose(MINER, &info(), id(200)).expect("a draft");
        let message = draft.message(Address::new_bls(&[3; 48]).expect("an address"));
        assert_eq!((message.to, message.method_num, message.sequence), (id(1000), 23, 0));
        assert_eq!(message.params, draft.params);
    }
}

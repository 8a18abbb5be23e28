//! Finds where a message was executed.

use std::sync::Arc;

use cid::Cid;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::message::Message;
use fvm_shared::receipt::Receipt;
use thiserror::Error;

use super::chain::{Chain, ChainError};
use super::message::equal_call;
use super::tipset::Tipset;

/// Why a search failed. The messages are those of Lotus.
#[derive(Debug, Error)]
pub enum SearchError {
    /// The node has never seen the message.
    #[error("failed to load message: ipld: could not find {0}")]
    UnknownMessage(String),
    /// The nonce was used by a message with another call.
    #[error(
        "message was replaced: found message with equal nonce as the one we are looking for that is NOT a valid replacement message (F:{wanted} n {nonce}, TS: {found} n{nonce}): message was replaced"
    )]
    NotAReplacement {
        /// The requested message.
        wanted: String,
        /// The message that was found.
        found: String,
        /// The nonce of both.
        nonce: u64,
    },
    /// The nonce was used by the same call with other gas values, which the caller did not want to accept.
    #[error(
        "message was replaced: found message with equal nonce as the one we are looking for (F:{wanted} n {nonce}, TS: {found} n{nonce}): message was replaced"
    )]
    Replaced {
        /// The requested message.
        wanted: String,
        /// The message that was found.
        found: String,
        /// The nonce of both.
        nonce: u64,
    },
    /// The chain has no answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Where a message was executed.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The CID of the message on chain.
    pub message: Cid,
    /// The message's receipt.
    pub receipt: Receipt,
    /// The tipset whose parent state contains the effect: the child of the including one.
    pub tipset: Arc<Tipset>,
}

/// Searches backwards from a tipset, through at most `limit` epochs (to genesis if it is negative).
pub fn search(
    chain: &Chain,
    from: &Arc<Tipset>,
    cid: &Cid,
    limit: ChainEpoch,
    allow_replaced: bool,
) -> Result<Option<Lookup>, SearchError> {
    let wanted = chain.message(cid).ok_or(SearchError::UnknownMessage(cid.to_string()))?;
    let wanted = (*cid, &wanted.message);
    let mut current = from.clone();
    let lowest = if limit < 0 { 0 } else { from.height() - limit };
    while current.height() >= lowest {
        let Some(parent) = chain.parent(&current)? else {
            break;
        };
        match in_tipset(parent, wanted, allow_replaced)? {
            Found::At(index) => {
                let execution = chain.execution(&parent.cid)?;
                let message = parent.messages.get(index).map(|(cid, _)| *cid);
                let receipt = execution.receipts.get(index).cloned();
                return Ok(message.zip(receipt).map(|(message, receipt)| Lookup { message, receipt, tipset: current }));
            }
            Found::Earlier => return Ok(None),
            Found::Nothing => current = parent.clone(),
        }
    }
    Ok(None)
}

enum Found {
    /// The message, with its index in the tipset.
    At(usize),
    /// An earlier message of the sender, so the search can stop.
    Earlier,
    /// No message of the sender.
    Nothing,
}

fn in_tipset(tipset: &Tipset, wanted: (Cid, &Message), allow_replaced: bool) -> Result<Found, SearchError> {
    let (wanted_cid, message) = wanted;
    for (index, (found_cid, found)) in tipset.messages.iter().enumerate().rev() {
        let other = &found.message;
        if other.from != message.from {
            continue;
        }
        if other.sequence < message.sequence {
            return Ok(Found::Earlier);
        }
        if other.sequence > message.sequence {
            continue;
        }
        let (wanted, found) = (wanted_cid.to_string(), found_cid.to_string());
        let nonce = message.sequence;
        if !equal_call(other, message) {
            return Err(SearchError::NotAReplacement { wanted, found, nonce });
        }
        if *found_cid != wanted_cid && !allow_replaced {
            return Err(SearchError::Replaced { wanted, found, nonce });
        }
        return Ok(Found::At(index));
    }
    Ok(Found::Nothing)
}

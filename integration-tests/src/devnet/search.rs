//! Finding where a message was executed.

use std::sync::Arc;

use cid::Cid;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::message::Message;
use fvm_shared::receipt::Receipt;
use thiserror::Error;

use super::chain::{Chain, ChainError};
use super::message::equal_call;
use super::tipset::Tipset;

/// Why a search failed. The wording is Lotus'.
#[derive(Debug, Error)]
pub enum SearchError {
    /// The node never saw the message.
    #[error("failed to load message: ipld: could not find {0}")]
    UnknownMessage(String),
    /// The nonce was used by a message that asks for something else.
    #[error(
        "message was replaced: found message with equal nonce as the one we are looking for that is NOT a valid replacement message (F:{wanted} n {nonce}, TS: {found} n{nonce}): message was replaced"
    )]
    NotAReplacement {
        /// The message looked for.
        wanted: String,
        /// The message found.
        found: String,
        /// Their nonce.
        nonce: u64,
    },
    /// The nonce was used by the same call with other gas, which the caller did not want.
    #[error(
        "message was replaced: found message with equal nonce as the one we are looking for (F:{wanted} n {nonce}, TS: {found} n{nonce}): message was replaced"
    )]
    Replaced {
        /// The message looked for.
        wanted: String,
        /// The message found.
        found: String,
        /// Their nonce.
        nonce: u64,
    },
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Where a message was executed.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// CID of the message that is on chain.
    pub message: Cid,
    /// Its receipt.
    pub receipt: Receipt,
    /// The tipset whose parent state holds the effect: the child of the including one.
    pub tipset: Arc<Tipset>,
}

/// Searches from a tipset back, at most `limit` epochs (negative: to genesis).
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
    /// The message, by its index in the tipset.
    At(usize),
    /// An earlier message of the sender: the wanted one is not before it.
    Earlier,
    /// Nothing of the sender.
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

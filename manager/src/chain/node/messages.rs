//! Keys, signing, the message pool, and the search for messages.

use std::pin::pin;

use cid::Cid;
use futures::StreamExt;
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use serde_json::{Value, json};

use super::NodeClient;
use crate::chain::error::Error;
use crate::chain::fees::Gas;
use crate::chain::json::{self, AddressText, CidLink};
use crate::chain::message::{self, Message, SignedMessage};
use crate::chain::rpc::Transport;
use crate::chain::types::{Epoch, MessageLookup, TipSetKey};

/// A fee limit that limits nothing: more FIL than there are. Without a limit the node would use its default.
const NO_MAX_FEE: u64 = 2_000_000_000;

/// Why the node's wallet did not sign.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The call failed.
    #[error("the wallet cannot be asked")]
    Node(#[from] Error),
    /// The answer is not our message with its sender's signature.
    #[error("the wallet's answer cannot be used")]
    Answer(#[from] message::Error),
}

impl<T: Transport> NodeClient<T> {
    /// The key address of an account. Messages must be sent from it.
    pub async fn account_key(&self, address: &Address, tipset: &TipSetKey) -> Result<Address, Error> {
        let text: AddressText = self.of_address("StateAccountKey", address, tipset).await?;
        Ok(text.0)
    }

    /// The ID address of an actor.
    pub async fn lookup_id(&self, address: &Address, tipset: &TipSetKey) -> Result<Address, Error> {
        let text: AddressText = self.of_address("StateLookupID", address, tipset).await?;
        text.0.id().map_err(|error| Error::bad_answer("StateLookupID", error))?;
        Ok(text.0)
    }

    /// Whether the node's wallet holds the key.
    pub async fn wallet_has(&self, key: &Address) -> Result<bool, Error> {
        let key = self.text(key).await?;
        self.call("WalletHas", json!([key])).await
    }

    /// Lets the node's wallet sign a message. Checks that the answer is this message with a valid signature.
    pub async fn wallet_sign_message(&self, message: &Message) -> Result<SignedMessage, SignError> {
        let network = self.network().await?;
        let params = json!([json::address_text(&message.from, network), message::to_json(message, network)]);
        let answer = self.transport.call("WalletSignMessage", params).await?;
        Ok(SignedMessage::from_wallet(message, answer)?)
    }

    /// The next nonce of a key according to the node's message pool. Other nodes may have seen more messages.
    pub async fn mpool_get_nonce(&self, key: &Address) -> Result<u64, Error> {
        let key = self.text(key).await?;
        self.call("MpoolGetNonce", json!([key])).await
    }

    /// Pushes a signed message to the message pools of all nodes. It is a success if one of them takes it or has it.
    ///
    /// After an error check [`Error::outcome_unknown`]: the message may be in a pool, and then only the same bytes may be
    /// pushed again.
    pub async fn mpool_push(&self, signed: &SignedMessage) -> Result<Cid, Error> {
        const METHOD: &str = "MpoolPush";
        let ours = signed.cid().map_err(|error| Error::bad_answer(METHOD, error))?;
        let network = self.network().await?;
        let mut answers = pin!(self.transport.everywhere(METHOD, json!([signed.to_json(network)])));
        let mut failure = None;
        while let Some(answer) = answers.next().await {
            match self.taken(signed, &ours, answer).await {
                Ok(cid) => return Ok(cid),
                Err(error) if failure.as_ref().is_none_or(|known| weight(known) < weight(&error)) => {
                    failure = Some(error)
                }
                Err(_) => {}
            }
        }
        Err(failure.unwrap_or_else(|| Error::bad_answer(METHOD, "no answer")))
    }

    /// Whether a node's answer means that its pool has the message.
    async fn taken(&self, signed: &SignedMessage, ours: &Cid, answer: Result<Value, Error>) -> Result<Cid, Error> {
        const METHOD: &str = "MpoolPush";
        match answer.and_then(|answer| super::decode::<CidLink>(METHOD, answer)) {
            Ok(CidLink(cid)) if cid == *ours => Ok(cid),
            Ok(CidLink(cid)) => Err(Error::bad_answer(METHOD, format!("{cid} for our {ours}"))),
            Err(error) if error.is_already_in_mpool() => Ok(*ours),
            Err(error) if error.is_nonce_in_mempool() => match self.mpool_has(signed).await {
                Ok(true) => Ok(*ours),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Whether exactly this message is in the node's message pool. The answer is large, so use it only as a last
    /// resort.
    pub async fn mpool_has(&self, signed: &SignedMessage) -> Result<bool, Error> {
        const METHOD: &str = "MpoolPending";
        let pending: Option<Vec<Value>> = self.call(METHOD, json!([TipSetKey::head()])).await?;
        // Entries that cannot be parsed are from other kinds of senders than ours.
        Ok(pending.unwrap_or_default().into_iter().any(|value| signed.is_same_json(value)))
    }

    /// The nonces of these senders' messages in the message pools of all nodes, each with its sender. The answer is large, so
    /// use it only as a last resort.
    pub async fn mpool_nonces(&self, senders: &[Address]) -> Result<Vec<(Address, u64)>, Error> {
        const METHOD: &str = "MpoolPending";
        let mut answers = pin!(self.transport.everywhere(METHOD, json!([TipSetKey::head()])));
        let (mut found, mut answered, mut failure) = (Vec::new(), false, None);
        while let Some(answer) = answers.next().await {
            let pending: Option<Vec<Value>> = match answer.and_then(|answer| super::decode(METHOD, answer)) {
                Ok(pending) => pending,
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            answered = true;
            found.extend(pending.unwrap_or_default().iter().filter_map(|value| {
                let from = json::parse_address(value["Message"]["From"].as_str()?).ok()?.0;
                Some((from, value["Message"]["Nonce"].as_u64()?)).filter(|(from, _)| senders.contains(from))
            }));
        }
        match failure {
            Some(error) if !answered => Err(error),
            _ => Ok(found),
        }
    }

    /// Executes a message on trial, and returns its gas fields. The node executes it at its message pool's tipset,
    /// which may be some epochs from `tipset`, after the sender's pending messages.
    ///
    /// An abort of the actor is a refusal with [`Error::exit_code`]. The node gets no fee limit, because it would
    /// silently lower the cap below what any pool accepts. The result must be clamped ([`Gas::clamped`]).
    pub async fn gas_estimate(&self, message: &Message, tipset: &TipSetKey) -> Result<Gas, Error> {
        const METHOD: &str = "GasEstimateMessageGas";
        let network = self.network().await?;
        // Not every node fills in missing fields.
        let spec = json!({
            "MaxFee": json::tokens_text(&TokenAmount::from_whole(NO_MAX_FEE)),
            "MsgUuid": "00000000-0000-0000-0000-000000000000",
            "MaximizeFeeCap": false,
        });
        let answer: Value = self.call(METHOD, json!([message::to_json(message, network), spec, tipset])).await?;
        let estimated = message::from_json(answer).map_err(|error| Error::bad_answer(METHOD, full_text(&error)))?;
        Ok(message::gas_of(&estimated))
    }

    /// Where a message landed, searching back from `from` over at most `limit` epochs, or without a limit if that is
    /// `None`. Returns `None` if it did not land.
    ///
    /// A node with an index searches from its own head, whatever `from` is, so a result above `height_max` counts as
    /// not landed yet. With `allow_replaced` the answer may be another message of the same sender and nonce; the caller
    /// must compare.
    pub async fn search_msg(
        &self,
        from: &TipSetKey,
        height_max: Epoch,
        cid: &Cid,
        limit: Option<Epoch>,
        allow_replaced: bool,
    ) -> Result<Option<MessageLookup>, Error> {
        let params = json!([from, json::cid_value(cid), limit.unwrap_or(-1), allow_replaced]);
        let lookup: Option<MessageLookup> = self.call("StateSearchMsg", params).await?;
        Ok(lookup.filter(|lookup| lookup.height <= height_max))
    }
}

/// How much an error says about a push that failed at every node. If one of the pools may have the message, that counts;
/// a pool's refusal says more than a node that is away.
fn weight(error: &Error) -> u8 {
    match error {
        error if error.outcome_unknown() => 2,
        Error::Refused { .. } => 1,
        _ => 0,
    }
}

fn full_text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

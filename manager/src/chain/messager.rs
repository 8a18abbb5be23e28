//! Venus' messager (`sophon-messager`): gives messages their nonces, estimates their gas, signs and pushes them.
//!
//! What it does was read in ipfs-force-community/sophon-messager at 8254efe and filecoin-project/venus at 3e20c0d:
//!
//! - It speaks JSON-RPC at `/rpc/v0`, with method names that begin with `Message.` and a token as a node's (`api/modules.go`,
//!   `venus-shared/api/messager`). We call `HasMessageByUid`, `GetMessageByUid`, `WalletHas` (permission `read`),
//!   `PushMessageWithId` and `MarkBadMessage` (`write`).
//! - An id is the primary key of its messages (`models/sqlite/message.go`). A second push with the same id fails and changes
//!   nothing. So after a push that failed, `HasMessageByUid` says whether the messager has it.
//! - A pushed message is *unfilled* until, some seconds after a new head, it gets nonce, gas and signature in one step
//!   (`service/message_selector.go`). If that fails, it stays unfilled with `ErrorMsg`, and is tried again at each head.
//! - `MarkBadMessage` sets the state to *failed* whatever it was, and such a message is neither filled nor pushed any more.
//!   A round of filling that is under way overwrites the mark (`saveSelectedMessages`).
//! - A message that a reorganisation took from the chain is pushed again (`service/message_state_refresh.go`), and
//!   `ReplaceMessage` signs the same call with the same nonce for another fee.

use cid::Cid;
use futures::future::{BoxFuture, FutureExt};
use fvm_shared::{
    address::{Address, Network},
    econ::TokenAmount,
    message::Message,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error as ChainError, Transport, json as wire,
    message::{self, SignedMessage},
};

/// What `ErrorMsg` begins with if the gas could not be estimated (`service/message_selector.go`).
const GAS_ESTIMATE: &str = "gas estimate: ";

/// Why a call to the messager failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not answer, or its answer cannot be used.
    #[error("the messager does not answer ({})", in_words(source))]
    Away {
        /// What failed.
        source: ChainError,
    },
    /// It does not let us call a method. A person must act.
    #[error(
        "the messager does not let us call it ({}): see chain.messager.url and chain.messager.token_file",
        in_words(source)
    )]
    Denied {
        /// What failed.
        source: ChainError,
    },
    /// It understood a call and refused it.
    #[error("the messager refused {method}: {said}")]
    Refused {
        /// The method, without prefix.
        method: &'static str,
        /// What it said.
        said: String,
    },
    /// What it says of a message cannot be true.
    #[error("what the messager has of {uid} is wrong: {what}")]
    Wrong {
        /// The message's id.
        uid: String,
        /// What is wrong.
        what: String,
    },
}

/// A transport behind a pointer, so that the messager's may be another than the node's.
trait Caller: Send + Sync {
    fn call(&self, method: &'static str, params: Value) -> BoxFuture<'_, Result<Value, ChainError>>;
}

/// The client of a messager.
pub struct Messager {
    caller: Box<dyn Caller>,
    overestimation: Overestimation,
}

/// Factors for the messager's estimates. 0: its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overestimation {
    /// `GasOverEstimation`: of the gas limit.
    pub gas: f64,
    /// `GasOverPremium`: of the premium.
    pub premium: f64,
}

/// How far a message is, as the messager says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has no nonce yet.
    Unfilled,
    /// It is signed and pushed, or is on chain; or another one with its nonce is.
    Filled,
    /// It was marked bad, and the messager does nothing with it.
    Failed,
}

/// A message of the messager.
#[derive(Clone, Debug)]
pub struct Held {
    /// The message. Nonce and gas are of no meaning until it is signed.
    pub message: Message,
    /// The last envelope.
    pub signed: Option<SignedMessage>,
    /// How far it is.
    pub state: State,
    /// Why it could not be filled.
    pub error: String,
}

/// The fields of a message that are not those of [`Message`] (`venus-shared/types/messager/message.go`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HeldJson {
    #[serde(default, deserialize_with = "wire::cid_link_opt::deserialize")]
    signed_cid: Option<Cid>,
    #[serde(default)]
    signature: Value,
    state: u8,
    #[serde(default)]
    error_msg: String,
}

impl<T: Transport> Caller for T {
    fn call(&self, method: &'static str, params: Value) -> BoxFuture<'_, Result<Value, ChainError>> {
        Transport::call(self, method, params).boxed()
    }
}

impl Messager {
    /// A client over a transport, whose methods are the messager's. Makes no call.
    pub fn new(transport: impl Transport + 'static, overestimation: Overestimation) -> Messager {
        Messager { caller: Box::new(transport), overestimation }
    }

    /// Whether it has a message with this id.
    pub async fn has(&self, uid: &str) -> Result<bool, Error> {
        self.call("HasMessageByUid", json!([uid])).await
    }

    /// The message with this id, if there is one.
    pub async fn get(&self, uid: &str) -> Result<Option<Held>, Error> {
        match self.call::<Value>("GetMessageByUid", json!([uid])).await {
            Ok(value) => Held::read(value).map(Some).map_err(|what| Error::Wrong { uid: uid.to_owned(), what }),
            // An unknown id is an error like any other.
            Err(error @ Error::Refused { .. }) => {
                if self.has(uid).await? {
                    Err(error)
                } else {
                    Ok(None)
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Hands a message over. Whatever the outcome, the same may be handed over again with the same id.
    pub async fn push(
        &self,
        uid: &str,
        message: &Message,
        max_fee: &TokenAmount,
        network: Network,
    ) -> Result<(), Error> {
        let spec = json!({
            "expireEpoch": 0,
            "gasOverEstimation": self.overestimation.gas,
            "maxFee": wire::tokens_text(max_fee),
            "gasOverPremium": self.overestimation.premium,
        });
        let params = json!([uid, message::to_json(message, network), spec]);
        match self.call::<Value>("PushMessageWithId", params).await {
            Ok(_) => Ok(()),
            Err(error @ Error::Refused { .. }) => {
                if self.has(uid).await? {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Marks a message as bad, which must not be signed yet: one that is leaves a gap of nonces behind.
    pub async fn mark_bad(&self, uid: &str) -> Result<(), Error> {
        self.call::<Value>("MarkBadMessage", json!([uid])).await.map(drop)
    }

    /// Whether a wallet that it reaches has the key, and the token's user may use it.
    pub async fn wallet_has(&self, key: &Address, network: Network) -> Result<bool, Error> {
        match self.call("WalletHas", json!([wire::address_text(key, network)])).await {
            Err(error) if error.is_sender_unknown() => Ok(false),
            answer => answer,
        }
    }

    async fn call<R: serde::de::DeserializeOwned>(&self, method: &'static str, params: Value) -> Result<R, Error> {
        let answer = self.caller.call(method, params).await.map_err(Error::of)?;
        serde_json::from_value(answer).map_err(|error| Error::Away { source: ChainError::bad_answer(method, error) })
    }
}

impl std::fmt::Debug for Messager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messager").field("overestimation", &self.overestimation).finish_non_exhaustive()
    }
}

impl Error {
    fn of(source: ChainError) -> Error {
        match source {
            ChainError::Refused { method, message, .. } => Error::Refused { method, said: message },
            source if source.needs_person() => Error::Denied { source },
            source => Error::Away { source },
        }
    }

    /// Whether the sender's key is in no wallet, is forbidden, or is not the token's user's. The texts are those of
    /// `service/message_service.go` and of sophon-auth's `jwtclient`.
    pub fn is_sender_unknown(&self) -> bool {
        let texts = ["permission deny", "signer address", "is forbidden"];
        matches!(self, Error::Refused { said, .. } if texts.iter().any(|text| said.contains(text)))
    }

    /// Whether a person must act.
    pub fn needs_person(&self) -> bool {
        !matches!(self, Error::Away { .. })
    }
}

impl Held {
    /// Whether the gas could not be estimated, so that the chain would refuse it.
    pub fn is_refused(&self) -> bool {
        self.error.starts_with(GAS_ESTIMATE)
    }

    /// Whether it does what another message does, whatever their nonces and gas.
    pub fn does(&self, asked: &Message) -> bool {
        let Message { from, to, value, method_num, params, .. } = &self.message;
        (from, to, value, method_num, params)
            == (&asked.from, &asked.to, &asked.value, &asked.method_num, &asked.params)
    }

    fn read(value: Value) -> Result<Held, String> {
        let HeldJson { signed_cid, signature, state, error_msg } =
            serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        let message = message::from_json(value).map_err(|error| in_words(&error))?;
        let state = match state {
            // `NoWalletMsg` (6) of old versions: tried again as well.
            1 | 6 => State::Unfilled,
            2 | 3 | 5 => State::Filled,
            4 => State::Failed,
            other => return Err(format!("state {other}")),
        };
        let signed = match signed_cid {
            None => None,
            Some(cid) => {
                let answer = json!({ "Message": message::to_json(&message, Network::Mainnet), "Signature": signature });
                let signed = SignedMessage::from_wallet(&message, answer).map_err(|error| in_words(&error))?;
                let ours = signed.cid().map_err(|error| in_words(&error))?;
                if ours != cid {
                    return Err(format!("it is signed as {cid}, and its bytes are {ours}"));
                }
                Some(signed)
            }
        };
        if signed.is_none() && state == State::Filled {
            return Err("it is filled without a signature".to_owned());
        }
        Ok(Held { message, signed, state, error: error_msg })
    }
}

fn in_words(error: &dyn std::error::Error) -> String {
    crate::drive::chain_of(error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// A message as the messager answers it, from `venus-shared/api/messager/method.md` with the fields of our own.
    fn answer(state: u8) -> Value {
        json!({
            "ID": "e26f1e5c-47f7-4561-a11d-18fab6e748af", "UnsignedCid": null, "SignedCid": null, "Version": 0,
            "To": "f01234", "From": "f01",
            "Nonce": 0, "Value": "77", "GasLimit": 0, "GasFeeCap": "0", "GasPremium": "0", "Method": 28,
            "Params": "Ynl0ZSBhcnJheQ==", "Signature": null, "Height": 0, "Confidence": 0, "Receipt": null,
            "TipSetKey": [], "Meta": { "expireEpoch": 0, "gasOverEstimation": 0, "maxFee": "5", "gasOverPremium": 0 },
            "WalletName": "test", "State": state, "ErrorMsg": "gas estimate: estimating gas limit: exit 16",
            "CreatedAt": "0001-01-01T00:00:00Z", "UpdatedAt": "0001-01-01T00:00:00Z"
        })
    }

    #[test]
    fn what_is_not_filled_yet_says_why() {
        let held = Held::read(answer(1)).unwrap();
        assert_eq!((held.state, held.is_refused(), held.signed.is_none()), (State::Unfilled, true, true));
        assert_eq!((held.message.method_num, held.message.value.atto().to_string()), (28, "77".to_owned()));
    }

    #[test]
    fn states_are_those_of_new_and_old_versions_and_no_others() {
        let read = |state| Held::read(answer(state)).map(|held| held.state);
        assert_eq!((read(1), read(4), read(6)), (Ok(State::Unfilled), Ok(State::Failed), Ok(State::Unfilled)));
        assert_eq!(read(2).unwrap_err(), "it is filled without a signature");
        assert_eq!((read(0).unwrap_err(), read(7).unwrap_err()), ("state 0".to_owned(), "state 7".to_owned()));
    }

    #[test]
    fn a_sender_that_it_may_not_use_is_told_from_other_refusals() {
        for (said, unknown) in [
            ("signer f3a not exist in user u: permission deny", true),
            ("signer address f3a not exists", true),
            ("address(f3a) is forbidden", true),
            ("UNIQUE constraint failed: messages.id", false),
        ] {
            let error = Error::of(ChainError::refused("PushMessageWithId", 1, said));
            assert_eq!((error.is_sender_unknown(), error.needs_person()), (unknown, true), "{error}");
        }
    }
}

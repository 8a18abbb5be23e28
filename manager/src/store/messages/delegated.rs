//! Calls that the messager sends.
//!
//! What such a call says is stored with an id before it is handed over. The messager takes an id once, so handing the same
//! over again has no second effect. What it has signed is stored as the call's envelopes when we see it.

use sqlx::{Row, any::AnyRow};

use super::{CallId, Envelope, Message, Signed, changes::OF_CALL};
use crate::store::{StoreError, Tx, sql};

/// A call that the messager sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegated {
    /// The call.
    pub call: CallId,
    /// Its id at the messager.
    pub uid: String,
    /// The canonical CBOR of the message, without nonce and fees.
    pub unsigned: Vec<u8>,
    /// The most gas fees that it may cost, in attoFIL.
    pub max_fee_atto: String,
    /// The head's epoch when it was stored; it cannot have landed before.
    pub epoch: i64,
    /// What the messager has signed last, as far as we have seen.
    pub signed: Option<Signed>,
    /// How far it is.
    pub stage: Stage,
}

/// How far a call is that the messager sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is unknown whether the messager has it.
    Stored,
    /// The messager has it.
    HandedOver {
        /// The head's epoch at that time.
        epoch: i64,
    },
    /// It is no longer wanted. It may still land.
    Withdrawn,
}

/// A call that the messager is to send.
#[derive(Clone, Copy, Debug)]
pub struct NewDelegated<'a> {
    /// The key address that sends it.
    pub sender: &'a str,
    /// See [`Delegated::uid`].
    pub uid: &'a str,
    /// See [`Delegated::unsigned`].
    pub unsigned: &'a [u8],
    /// See [`Delegated::max_fee_atto`].
    pub max_fee_atto: &'a str,
    /// See [`Delegated::epoch`].
    pub epoch: i64,
}

impl Tx {
    /// Gives wants, or an errand, their call, which the messager sends. `messages` are in the order of the call's parameters.
    pub async fn save_delegated(
        &mut self,
        messages: &[&Message],
        new: &NewDelegated<'_>,
    ) -> Result<CallId, StoreError> {
        let Some(first) = messages.first() else {
            return Err(StoreError::BadRow { what: "a call".to_owned(), problem: "nobody wants it".to_owned() });
        };
        for message in messages {
            self.mark_called(message).await?;
        }
        let call = sqlx::query(
            "INSERT INTO calls (kind, miner, errand, state, sender, uid, unsigned, max_fee, signed_epoch) \
             VALUES ($1, $2, $3, 'signed', $4, $5, $6, $7, $8) RETURNING id",
        )
        .bind(first.kind.name())
        .bind(first.miner.to_string())
        .bind(first.errand.map(|errand| errand.0))
        .bind(new.sender)
        .bind(new.uid)
        .bind(new.unsigned)
        .bind(new.max_fee_atto)
        .bind(new.epoch)
        .fetch_one(&mut *self.inner)
        .await
        .map_err(sql("store a call for the messager"))?;
        let call = CallId(call.get("id"));
        for (position, want) in messages.iter().filter_map(|message| message.want).enumerate() {
            self.add_to_call(call, position, want).await?;
        }
        self.note_precommit(OF_CALL, call.0, true).await?;
        Ok(call)
    }

    /// Stores what the messager has signed for a call, as its last envelope.
    pub async fn save_seen(&mut self, call: CallId, envelope: &Envelope) -> Result<(), StoreError> {
        sqlx::query("UPDATE calls SET envelope = COALESCE(envelope, 0) + 1 WHERE id = $1")
            .bind(call.0)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("store what the messager signed"))?;
        self.insert_envelope(call, envelope).await
    }
}

/// Reads a call for the messager; `state` is the stored one.
pub(super) fn from_row(row: &AnyRow, call: CallId, state: &str) -> Result<Delegated, String> {
    let text = |column| row.get::<Option<String>, _>(column).ok_or_else(|| format!("no {column}"));
    let number = |column| row.get::<Option<i64>, _>(column).ok_or_else(|| format!("no {column}"));
    let epoch = number("signed_epoch")?;
    let signed = row.get::<Option<String>, _>("cid").zip(row.get::<Option<Vec<u8>>, _>("signed"));
    Ok(Delegated {
        call,
        uid: text("uid")?,
        unsigned: row.get::<Option<Vec<u8>>, _>("unsigned").ok_or("no message")?,
        max_fee_atto: text("max_fee")?,
        epoch,
        signed: signed.map(|(cid, bytes)| Signed { call, cid, bytes, epoch: Some(epoch) }),
        stage: match state {
            "signed" => Stage::Stored,
            "pushed" => Stage::HandedOver { epoch: number("pushed_epoch")? },
            "withdrawn" => Stage::Withdrawn,
            other => return Err(format!("state {other}")),
        },
    })
}

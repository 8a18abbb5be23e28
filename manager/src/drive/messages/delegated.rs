//! The life of a call that the messager sends: stored with an id, handed over, filled there, landed; or taken back.
//!
//! The messager takes an id once, so a call is handed over until it is known to have it. It chooses the nonce, and replaces the
//! envelope when the fee is too low. We see its envelopes, store them, and follow them like our own: what landed is read from
//! the state and the receipt at the confident tipset, never from what the messager says. Another call for the same purpose gets
//! another id. It follows only when its predecessor's nonce is used on the confident part of the chain, or when the messager has
//! dropped it unsigned.

use fvm_shared::message::Message as Unsigned;
use sealbus_schema::ErrorCode;
use serde_json::json;

use super::{decide::Seen, name_of, nonces::withdraw, note_all};
use crate::{
    chain::{
        Messager, Transport, WaitReason,
        json::parse_tokens,
        message::{self, SignedMessage},
        messager::{Error as MessagerError, Held, State},
    },
    drive::{DriveError, Driver, View, lock},
    store::{Delegated, Envelope, Message, MessageKind, Signed, Stage},
};

/// What has become of a call at the messager.
enum Found {
    /// It does not have it.
    Absent,
    /// It has it, unsigned.
    Unfilled(Box<Held>),
    /// It has signed it. It may land, whatever the messager does with it from now on.
    Signed {
        /// The last envelope.
        signed: Signed,
        /// Whether it was marked bad after that, so that the messager pushes it no more.
        is_marked: bool,
    },
    /// It was marked bad, perhaps in the middle of a round that overwrites the mark.
    Marked,
    /// It can never land.
    Dropped {
        /// Why, in words.
        why: String,
    },
}

impl<T: Transport + 'static> Driver<T> {
    /// Takes the next step of a call that the messager sends.
    pub(super) async fn step_delegated(
        &self,
        view: &View,
        group: &[Message],
        call: &Delegated,
    ) -> Result<(), DriveError> {
        let Some(messager) = &self.messager else {
            let said = format!(
                "it may have {}, and [chain.messager] is not configured any more; configure it until the \
                                message has ended",
                call.uid
            );
            return Err(WaitReason::MessagerNeeds { what: name_of(group.iter()), said }.into());
        };
        match call.stage {
            Stage::Stored | Stage::HandedOver { .. } if self.is_unwanted(view, group).await? => {
                self.take_back(group, call).await
            }
            Stage::Stored => self.hand_over(view, group, call).await,
            Stage::HandedOver { epoch } => self.follow_delegated(view, messager, group, call, epoch).await,
            Stage::Withdrawn => self.see_taken_back(view, messager, group, call).await,
        }
    }

    /// Hands a call over, perhaps once more.
    pub(super) async fn hand_over(&self, view: &View, group: &[Message], call: &Delegated) -> Result<(), DriveError> {
        let (Some(messager), Some(lead)) = (&self.messager, group.first()) else { return Ok(()) };
        let unsigned = message::from_unsigned_bytes(&call.unsigned)?;
        // A second manager could do no harm, because the id is taken once. But only the holder of the fold should send.
        self.store.check_epoch(self.epoch).await?;
        let pushed = self.give_to(messager, call, &unsigned).await;
        pushed.map_err(|error| match error {
            DriveError::Messager(error) if error.is_sender_unknown() => sender_unknown(group, &unsigned, &error).into(),
            error => error,
        })?;
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.mark_pushed(call.call, view.head.height).await?;
        let detail = json!({ "message": lead.kind.name(), "uid": call.uid, "head_epoch": view.head.height });
        note_all(&mut tx, group.iter(), "message_handed_over", &detail).await?;
        Ok(tx.commit().await?)
    }

    async fn give_to(&self, messager: &Messager, call: &Delegated, message: &Unsigned) -> Result<(), DriveError> {
        let max_fee = parse_tokens(&call.max_fee_atto).map_err(|problem| wrong(call, &problem))?;
        Ok(messager.push(&call.uid, message, &max_fee, self.node.network().await?).await?)
    }

    /// Has the messager do nothing with a call that it has not signed.
    async fn mark_bad(&self, messager: &Messager, call: &Delegated) -> Result<(), DriveError> {
        self.store.check_epoch(self.epoch).await?;
        Ok(messager.mark_bad(&call.uid).await?)
    }

    /// Follows a call that the messager has.
    async fn follow_delegated(
        &self,
        view: &View,
        messager: &Messager,
        group: &[Message],
        call: &Delegated,
        handed_over: i64,
    ) -> Result<(), DriveError> {
        let Some(lead) = group.first() else { return Ok(()) };
        let with_messager = |said: String| {
            Err(WaitReason::WithMessager { what: name_of(group.iter()), uid: call.uid.clone(), said }.into())
        };
        let (signed, is_marked) = match self.ask(view, messager, group, call).await? {
            // Its database is an older one. Nothing was signed, as far as we have seen, so the same is handed over again.
            Found::Absent => return self.hand_over(view, group, call).await,
            Found::Dropped { why } => {
                for message in group {
                    let sector = self.sector_of(message).await?;
                    let code = ErrorCode::MESSAGER_REFUSES;
                    let followed = self.now(view).gone(message, sector.as_ref(), code, why.clone());
                    self.conclude(message, followed, "", &[]).await?;
                }
                return Ok(());
            }
            Found::Marked => return with_messager("where it is marked bad; it is sent anew soon".to_owned()),
            Found::Unfilled(held) => {
                let waited = view.head.height - handed_over;
                if held.is_refused() && waited >= self.config.chain.repush_epochs {
                    // Another call follows, with what the chain says of each sector.
                    self.mark_bad(messager, call).await?;
                    self.changed.ring();
                }
                return match held.error.as_str() {
                    "" if waited < self.usual_epochs() => Ok(()),
                    "" => with_messager(format!("since epoch {handed_over}, and has no nonce yet")),
                    error => with_messager(format!("where it gets no nonce: {error}")),
                };
            }
            Found::Signed { signed, is_marked } => (signed, is_marked),
        };
        let bytes = SignedMessage::from_bytes(&signed.bytes)?;
        let sent = bytes.message();
        if let Some(found) = self.find(view, &signed, &bytes).await? {
            return self.see_executed(view, group, &signed, sent, handed_over, &found).await;
        }
        if self.nonce_used(view, &sent.from, sent.sequence).await? {
            for message in group {
                let sector = self.sector_of(message).await?;
                let seen = Seen::Absent { nonce_used: true };
                self.resolve(view, message, sector, &signed, (sent, handed_over), seen, &[]).await?;
            }
            return Ok(());
        }
        if is_marked {
            let (nonce, sender, uid) = (sent.sequence, sent.from, &call.uid);
            let said = format!(
                "{uid} was marked bad there after it had been signed. It may still land, so nothing is sent instead until nonce \
                 {nonce} of {sender} is used: `sophon-messager msg recover-failed-msg --from {sender}` has it pushed again"
            );
            return Err(WaitReason::MessagerNeeds { what: lead.key.clone(), said }.into());
        }
        Ok(())
    }

    /// What the messager has under a call's id. Stores an envelope that was not seen before.
    async fn ask(
        &self,
        view: &View,
        messager: &Messager,
        group: &[Message],
        call: &Delegated,
    ) -> Result<Found, DriveError> {
        let Some(held) = messager.get(&call.uid).await? else {
            return Ok(match &call.signed {
                // It has forgotten what it signed.
                Some(signed) => Found::Signed { signed: signed.clone(), is_marked: true },
                None => Found::Absent,
            });
        };
        let asked = message::from_unsigned_bytes(&call.unsigned)?;
        if !held.does(&asked) {
            if held.does(&message::nonce_filler(asked.from)?) {
                if held.state == State::Unfilled {
                    self.mark_bad(messager, call).await?;
                }
                return Ok(Found::Dropped { why: "taken back before the messager had it".to_owned() });
            }
            return Err(wrong(call, "it is another message").into());
        }
        if let Some(envelope) = &held.signed {
            let signed = self.note_envelope(group, call, envelope).await?;
            return Ok(Found::Signed { signed, is_marked: held.state == State::Failed });
        }
        if let Some(signed) = &call.signed {
            return Ok(Found::Signed { signed: signed.clone(), is_marked: true });
        }
        if held.state != State::Failed {
            lock(&self.marked_bad).remove(&call.call);
            return Ok(Found::Unfilled(Box::new(held)));
        }
        let head = view.head.height;
        let since = *lock(&self.marked_bad).entry(call.call).or_insert(head);
        if head - since < self.config.chain.repush_epochs {
            return Ok(Found::Marked);
        }
        let why = match held.error.as_str() {
            "" => "the messager marked it bad before it was signed".to_owned(),
            error => format!("the messager could not fill it: {error}"),
        };
        Ok(Found::Dropped { why })
    }

    /// The row of what the messager has signed last. It is stored if it is new.
    async fn note_envelope(
        &self,
        group: &[Message],
        call: &Delegated,
        seen: &SignedMessage,
    ) -> Result<Signed, DriveError> {
        let (cid, bytes) = (seen.cid()?.to_string(), seen.to_bytes()?);
        let signed = Signed { call: call.call, cid, bytes, epoch: Some(call.epoch) };
        if call.signed.as_ref().is_some_and(|known| known.cid == signed.cid) {
            return Ok(signed);
        }
        let sent = seen.message();
        let envelope = Envelope {
            cid: signed.cid.clone(),
            bytes: signed.bytes.clone(),
            gas_limit: sent.gas_limit,
            fee_cap_atto: sent.gas_fee_cap.atto().to_string(),
            premium_atto: sent.gas_premium.atto().to_string(),
        };
        let detail = json!({
            "cid": signed.cid, "uid": call.uid, "nonce": sent.sequence, "from": sent.from.to_string(),
            "fee_cap_atto": envelope.fee_cap_atto, "gas_limit": sent.gas_limit,
        });
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.save_seen(call.call, &envelope).await?;
        note_all(&mut tx, group.iter(), "message_signed_by_messager", &detail).await?;
        tx.commit().await?;
        Ok(signed)
    }

    /// Takes a call back that carries what is no longer wanted. What else it carries is wanted anew, and is sent once it is
    /// certain that this call cannot land.
    async fn take_back(&self, group: &[Message], call: &Delegated) -> Result<(), DriveError> {
        let Some(lead) = group.first() else { return Ok(()) };
        let mut tx = self.store.begin_as(self.epoch).await?;
        withdraw(&mut tx, group, call.call, &json!({ "message": lead.kind.name(), "uid": call.uid })).await?;
        tx.commit().await?;
        tracing::info!(
            message = name_of(group.iter()),
            uid = call.uid,
            "taken back, unless the messager has signed it"
        );
        self.changed.ring();
        Ok(())
    }

    /// Sees to a call that was taken back. What is signed cannot be: the messager alone fills its nonce. Anything else is
    /// marked bad.
    async fn see_taken_back(
        &self,
        view: &View,
        messager: &Messager,
        group: &[Message],
        call: &Delegated,
    ) -> Result<(), DriveError> {
        match self.ask(view, messager, group, call).await? {
            Found::Absent => {
                // A push may still be on its way to it. Something harmless takes the id.
                let asked = message::from_unsigned_bytes(&call.unsigned)?;
                let filler = message::nonce_filler(asked.from)?;
                let limit = self.config.fee_limit(group[0].miner, MessageKind::Filler, 1, None);
                let max_fee_atto = limit.amount().atto().to_string();
                self.store.check_epoch(self.epoch).await?;
                self.give_to(messager, &Delegated { max_fee_atto, ..call.clone() }, &filler).await?;
                self.changed.ring();
                Ok(())
            }
            Found::Unfilled(_) => {
                self.mark_bad(messager, call).await?;
                self.changed.ring();
                Ok(())
            }
            Found::Marked => Ok(()),
            Found::Dropped { why } => {
                for message in group {
                    self.replaced(message, &why).await?;
                }
                Ok(())
            }
            Found::Signed { signed, .. } => self.see_withdrawn(view, group, &signed).await,
        }
    }
}

fn wrong(call: &Delegated, what: &str) -> MessagerError {
    MessagerError::Wrong { uid: call.uid.clone(), what: what.to_owned() }
}

fn sender_unknown(group: &[Message], unsigned: &Unsigned, error: &MessagerError) -> WaitReason {
    let sender = unsigned.from;
    let said = format!(
        "it may not use {sender}: import the key into its wallet, and bind it to the token's user with `sophon-auth user \
         signer register`, or set `sender` of the [[miner]] ({error})"
    );
    WaitReason::MessagerNeeds { what: name_of(group.iter()), said }
}

//! Fills nonces that must not stay unused: those of messages that are no longer wanted, and gaps that another tool left.

use fvm_shared::{address::Address, econ::TokenAmount, message::Message as Unsigned};
use sealbus_schema::{MinerId, SectorId};
use serde_json::{Value, json};

use super::{
    Change, exit_of, key_of, name_of, note_all,
    signing::{affordable, epochs_left, note_signed, soonest},
};
use crate::{
    chain::{
        Transport, WaitReason,
        fees::Gas,
        message::{self, SignedMessage},
    },
    drive::{DriveError, Driver, View, decide},
    store::{CallId, Happening, Message, MessageKind, Signed, StoreError, Tx, Verdict},
    workflows,
};

impl<T: Transport + 'static> Driver<T> {
    /// Withdraws a call that carries what is no longer wanted: it is not pushed any more, and a filler takes its nonce. What
    /// else it carries is wanted anew, and is signed once it is certain that this call cannot land.
    pub(super) async fn withdraw(&self, group: &[Message], signed: &Signed) -> Result<(), DriveError> {
        let Some(lead) = group.first() else { return Ok(()) };
        let bytes = SignedMessage::from_bytes(&signed.bytes)?;
        let (sender, nonce) = (bytes.message().from.to_string(), bytes.message().sequence);
        let detail = json!({ "message": lead.kind.name(), "cid": signed.cid, "nonce": nonce, "from": sender });
        let mut tx = self.store.begin_as(self.epoch).await?;
        withdraw(&mut tx, group, signed.call, &detail).await?;
        tx.want_filler((lead.miner, lead.sector), &sender, nonce).await?;
        tx.commit().await?;
        tracing::info!(message = name_of(group.iter()), nonce, "withdrawn; a filler takes its nonce");
        self.changed.ring();
        Ok(())
    }

    /// Checks whether the nonce of a withdrawn call is used, and by what. Its filler is followed separately.
    pub(super) async fn see_withdrawn(
        &self,
        view: &View,
        group: &[Message],
        signed: &Signed,
    ) -> Result<(), DriveError> {
        let bytes = SignedMessage::from_bytes(&signed.bytes)?;
        let sent = bytes.message();
        if !self.nonce_used(view, &sent.from, sent.sequence).await? {
            return Ok(());
        }
        let found = self.find(view, signed, &bytes).await?;
        for message in group {
            let Some(found) = &found else {
                self.replaced(message, "its nonce is used, and not by it").await?;
                continue;
            };
            let (exit, _) = exit_of(message, found);
            if !exit.is_ok() {
                let why = format!("failed at epoch {} with exit code {exit}, after it was withdrawn", found.height);
                let detail = json!({ "message": message.kind.name(), "why": why });
                self.note(message, "message_failed", detail, Change::Failed(exit, &why)).await?;
                continue;
            }
            let sector = self.sector_of(message).await?;
            match &sector {
                // It was withdrawn for the sake of another sector.
                Some(sector) if workflows::awaits(message.kind, sector) => drop(self.step_sector(view, sector).await?),
                _ => {
                    let (message, epoch) = (&message.key, found.height);
                    tracing::error!(%message, epoch, "landed though nobody wanted it any more");
                }
            }
            self.executed(message, &signed.cid, found.height, &found.receipt.return_bytes).await?;
        }
        Ok(())
    }

    /// Signs a filler, unless its nonce is used by now. It must pay more than the message with the same nonce, which may
    /// be in a pool.
    pub(super) async fn fill(
        &self,
        view: &View,
        message: &Message,
        sender: &str,
        nonce: u64,
    ) -> Result<Option<Signed>, DriveError> {
        let from = key_of(sender)?;
        if self.nonce_used(view, &from, nonce).await? {
            return self.replaced(message, "the nonce is used already").await.map(|()| None);
        }
        let filler = message::nonce_filler(from)?;
        let mut gas = self.estimate_filler(view, message, &from).await?;
        for bytes in self.store.beside(sender, nonce).await? {
            gas = gas.with_premium_of(more_than(&SignedMessage::from_bytes(&bytes)?.message().gas_premium));
        }
        let limit = self.config.fee_limit(message.miner, MessageKind::Filler, 1, None);
        let gas = affordable(view, message.key.clone(), gas, &limit)?;
        self.check_funds(view, &message.key, &filler, &gas).await?;
        let unsigned = message::with_gas_and_nonce(filler, gas, nonce);
        let envelope = self.envelope(&unsigned).await?;
        let mut tx = self.store.begin_as(self.epoch).await?;
        let signed = self.store_signed(&mut tx, view, &[message], &unsigned, envelope, &limit).await?;
        tx.commit().await?;
        Ok(Some(signed))
    }

    /// The present gas fees for a sender, estimated for a message that always succeeds.
    pub(super) async fn estimate_filler(
        &self,
        view: &View,
        message: &Message,
        from: &Address,
    ) -> Result<Gas, DriveError> {
        match self.node.gas_estimate(&message::nonce_filler(*from)?, &view.head.key).await {
            Ok(gas) => Ok(gas),
            Err(error) => Err(self.waits_for(message, from, error)),
        }
    }

    /// The premium, in attoFIL, with which others keep a message that is next in its sender's order out of blocks: at least a
    /// quarter above its own. A message behind a gap is stuck for the gap.
    pub(super) async fn outbid_by(
        &self,
        view: &View,
        message: &Message,
        sent: &Unsigned,
    ) -> Result<Option<u128>, DriveError> {
        if self.next_on_chain(view, &sent.from).await? < sent.sequence {
            return Ok(None);
        }
        let premium = self.estimate_filler(view, message, &sent.from).await?.premium;
        let is_more = premium >= more_than(&sent.gas_premium);
        Ok(u128::try_from(premium.atto().clone()).ok().filter(|_| is_more))
    }

    /// Signs the same call with the same nonce for a higher fee, if the operator's limit allows it. The next tick pushes
    /// it.
    pub(super) async fn sign_for_more(
        &self,
        view: &View,
        group: &[Message],
        signed: &Signed,
        premium_min_atto: Option<u128>,
    ) -> Result<(), DriveError> {
        let Some(lead) = group.first() else { return Ok(()) };
        let old = SignedMessage::from_bytes(&signed.bytes)?;
        let call = old.message();
        let before = message::gas_of(call);
        let least = more_than(&before.premium).max(TokenAmount::from_atto(premium_min_atto.unwrap_or(0)));
        let now = self.estimate_filler(view, lead, &call.from).await?;
        let wanted = Gas { limit: before.limit, ..now }.with_premium_of(least.clone());
        let mut left = None;
        for message in group {
            let sector = self.sector_of(message).await?;
            left = soonest(left, sector.and_then(|sector| epochs_left(view, &sector)));
            if let Some(errand) = message.errand
                && let Some(errand) = self.store.errand(errand).await?
            {
                left = soonest(left, errand.asked.until_epoch().map(|until| until - view.head.height));
            }
        }
        let limit = self.config.fee_limit(lead.miner, lead.kind, group.len() as u64, left);
        let gas = affordable(view, format!("{} for a higher fee", name_of(group.iter())), wanted, &limit)?;
        // A replacement must pay a higher premium. Otherwise only a higher fee cap makes a new envelope useful.
        if gas.premium < least || (premium_min_atto.is_none() && gas.fee_cap <= before.fee_cap) {
            let fee_cap_atto = before.fee_cap.atto().to_string();
            let base_fee_atto = view.base_fee().atto().to_string();
            let what = name_of(group.iter());
            return Err(WaitReason::BaseFeeAboveCap { what, fee_cap_atto, base_fee_atto }.into());
        }
        let unsigned = message::with_gas_and_nonce(call.clone(), gas, call.sequence);
        let envelope = self.envelope(&unsigned).await?;
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.save_envelope(signed.call, &envelope).await?;
        let group: Vec<&Message> = group.iter().collect();
        note_signed(&mut tx, &group, "message_signed_for_more", &envelope.cid, &unsigned, &limit).await?;
        tx.commit().await?;
        self.changed.ring();
        Ok(())
    }

    /// Fills the first nonce that the node's pool lacks before one of our messages, unless a message of ours has that
    /// nonce. The filler is booked for `miner`, and noted in the history of `sector`.
    pub(in crate::drive) async fn fill_gap(
        &self,
        view: &View,
        (miner, sector): (MinerId, Option<SectorId>),
        from: &Address,
        ours: u64,
    ) -> Result<(), DriveError> {
        let missing = self.node.mpool_get_nonce(from).await?;
        let sender = from.to_string();
        if missing >= ours || missing < self.next_on_chain(view, from).await? {
            return Ok(());
        }
        let stored = self.store.nonces_in_use(&sender, missing, missing + 1).await?;
        if !stored.is_empty() || !self.store.over_between(&sender, missing, missing + 1).await?.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin_as(self.epoch).await?;
        if !tx.want_filler((miner, sector), &sender, missing).await? {
            return Ok(());
        }
        tracing::warn!(%sender, nonce = missing, before = ours, "nothing has this nonce, and ours waits behind it; a filler takes it");
        if let Some(sector) = sector {
            let detail =
                json!({ "message": MessageKind::Filler.name(), "nonce": missing, "from": sender, "before": ours });
            tx.add_history(sector, Happening::of_manager("nonce_missing", detail), Verdict::Noted).await?;
        }
        tx.commit().await?;
        self.changed.ring();
        Ok(())
    }
}

/// Withdraws a call. What else it carries is wanted anew.
pub(super) async fn withdraw(tx: &mut Tx, group: &[Message], call: CallId, detail: &Value) -> Result<(), StoreError> {
    tx.mark_withdrawn(call, "not wanted any more").await?;
    for message in group {
        let Some(sector) = message.sector else { continue };
        let sector = tx.sector(sector).await?;
        if message.want.is_some() && sector.is_some_and(|sector| !decide::unwanted(message, &sector)) {
            tx.want_once_more(message, message.tries).await?;
        }
    }
    note_all(tx, group.iter(), "message_withdrawn", detail).await
}

/// The least premium that replaces this one in any node's pool. Lotus requires a tenth more, and by default a quarter
/// more.
fn more_than(premium: &TokenAmount) -> TokenAmount {
    (premium.clone() * 125u32).div_floor(100u32) + TokenAmount::from_atto(1)
}

//! Checks and signs messages.

use fvm_shared::{address::Address, message::Message as Unsigned};
use sealbus_schema::{ErrorClass, ErrorReport, workflows::Input};
use serde_json::json;

use crate::{
    chain::{
        Error as ChainError, Transport, WaitReason,
        exit::ExitCode,
        fees::{FeeLimit, Gas},
        message::{self, SignedMessage},
        network,
        node::SignError,
    },
    drive::{
        DriveError, Driver, View,
        decide::{self, Refusal},
    },
    store::{Envelope, Happening, Job, Message, MessageKind, Signed, Tx, Verdict},
    workflows::Wanted,
};

impl<T: Transport + 'static> Driver<T> {
    /// Builds, checks and signs a message, and stores its bytes. `None` if it must not be sent now.
    pub(super) async fn sign(&self, view: &View, message: &Message) -> Result<Option<Signed>, DriveError> {
        let Some(sector) = self.store.sector(message.sector).await? else { return Ok(None) };
        let wanted = self.consult(view, &sector, |now, known| decide::wanted(message, &sector, now, known)).await?;
        let Some(wanted) = wanted else { return Ok(None) };
        if matches!(wanted, Wanted::Sign(_) | Wanted::WaitFor(_) | Wanted::GiveUp { .. })
            && let Some(earlier) = self.store.earlier(message).await?
        {
            return Err(WaitReason::EarlierMessage { what: message.key.clone(), earlier }.into());
        }
        let call = match wanted {
            Wanted::Sign(call) => call,
            Wanted::Wait => return Ok(None),
            Wanted::WaitFor(reason) => return Err(reason.into()),
            Wanted::Over(why) => {
                let mut tx = self.store.begin_as(self.epoch).await?;
                tx.mark_failed(message, None, why).await?;
                return Ok(tx.commit().await.map(|()| None)?);
            }
            Wanted::GiveUp { error, input } => {
                return self.give_up(message, None, &error, input).await.map(|()| None);
            }
            Wanted::Apply(input) => return Ok(self.apply(sector.id, input).await.map(|()| None)?),
        };
        let limit = self.fee_limit(view, message.kind, &sector);
        self.wait_for_base_fee(view, message, &sector)?;
        let sender = self.sender(sector.id.miner, view).await?;
        let version = self.node.network_version(&view.head.key).await?;
        network::check_supported(version)?;
        let Some(unsigned) = self.build(view, &sector, call, sender, version).await? else { return Ok(None) };
        // The estimate executes the message, so it shows whether the chain would accept it.
        let gas = match self.node.gas_estimate(&unsigned, &view.head.key).await {
            Ok(gas) => gas.with_limit_of(message.tries.gas_limit_min),
            Err(error) => return self.not_taken(view, message, &sender, error).await.map(|()| None),
        };
        if message.tries.refused_epoch.is_some() {
            self.note_refusal(message, None).await?;
        }
        let gas = affordable(view, message.key.clone(), gas, &limit)?;
        self.check_funds(view, message, &unsigned, &gas).await?;
        let nonce = self.node.mpool_get_nonce(&sender).await?.max(self.store.next_nonce(&sender.to_string()).await?);
        let unsigned = message::with_gas_and_nonce(unsigned, gas, nonce);
        message::check_before_signing(&unsigned, &limit.amount())?;
        let envelope = self.envelope(&unsigned).await?;
        // Only the holder of this epoch signs, and the index over sender and nonce would refuse a second message.
        let mut tx = self.store.begin_as(self.epoch).await?;
        if !decide::stands_as(&sector, tx.sector(sector.id).await?.as_ref()) {
            return Ok(None);
        }
        let signed = self.store_signed(&mut tx, view, message, &unsigned, envelope, &limit).await?;
        tx.commit().await?;
        Ok(Some(signed))
    }

    /// The most that a message about a sector may cost now. It rises as the message's last epoch nears.
    pub(super) fn fee_limit(&self, view: &View, kind: MessageKind, sector: &Job) -> FeeLimit {
        self.config.chain.fee_limit(kind, 1, epochs_left(view, sector))
    }

    /// Waits while the base fee is higher than the operator wants to pay and the message is not urgent.
    fn wait_for_base_fee(&self, view: &View, message: &Message, sector: &Job) -> Result<(), WaitReason> {
        let (fees, base_fee) = (&self.config.chain.fees, view.base_fee());
        let left = epochs_left(view, sector);
        match fees.base_fee_wait() {
            Some(wanted) if base_fee > wanted && !fees.is_urgent(left) => Err(WaitReason::BaseFeeHigh {
                what: message.key.clone(),
                base_fee_atto: base_fee.atto().to_string(),
                wanted_atto: wanted.atto().to_string(),
                until: left.map(|left| view.head.height + left - fees.urgent_epochs),
            }),
            _ => Ok(()),
        }
    }

    /// Checks the sender's funds. The estimate ignores fees, so without this check the pool might refuse what was signed.
    pub(super) async fn check_funds(
        &self,
        view: &View,
        message: &Message,
        unsigned: &Unsigned,
        gas: &Gas,
    ) -> Result<(), DriveError> {
        let actor = self.node.get_actor(&unsigned.from, &view.head.key).await?;
        let balance = actor.map(|actor| actor.balance).unwrap_or_default();
        let required = unsigned.value.clone() + gas.fee_max();
        if balance >= required {
            return Ok(());
        }
        let said = format!("it has {balance} FIL, and value and fee may come to {required} FIL");
        Err(WaitReason::NotEnoughFunds { what: message.key.clone(), who: unsigned.from.to_string(), said }.into())
    }

    /// Signs with a key of this machine if it has the sender's, and otherwise with the node's wallet.
    pub(super) async fn envelope(&self, unsigned: &Unsigned) -> Result<Envelope, DriveError> {
        let signed = match self.config.chain.local_keys().sign(unsigned).await {
            Some(signed) => signed?,
            None => self.ask_wallet(unsigned).await?,
        };
        Ok(Envelope {
            cid: signed.cid()?.to_string(),
            bytes: signed.to_bytes()?,
            gas_limit: unsigned.gas_limit,
            fee_cap_atto: unsigned.gas_fee_cap.atto().to_string(),
            premium_atto: unsigned.gas_premium.atto().to_string(),
        })
    }

    async fn ask_wallet(&self, unsigned: &Unsigned) -> Result<SignedMessage, DriveError> {
        match self.node.wallet_sign_message(unsigned).await {
            Err(SignError::Node(error)) if error.is_key_missing() => {
                let sender = unsigned.from.to_string();
                Err(WaitReason::WalletWithoutKey { sender, said: error.to_string() }.into())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Stores the first envelope of a call.
    pub(super) async fn store_signed(
        &self,
        tx: &mut Tx,
        view: &View,
        message: &Message,
        unsigned: &Unsigned,
        envelope: Envelope,
        limit: &FeeLimit,
    ) -> Result<Signed, DriveError> {
        let (sender, nonce, epoch) = (unsigned.from.to_string(), unsigned.sequence, view.head.height);
        let call = tx.save_signed(message, &sender, nonce, epoch, &envelope).await?;
        self.note_signed(tx, message, "message_signed", &envelope.cid, unsigned, limit).await?;
        Ok(Signed { call, cid: envelope.cid, bytes: envelope.bytes, epoch: Some(epoch) })
    }

    /// Decides what follows from a refused estimate: wait until something changes, wait a few epochs, or give up.
    async fn not_taken(
        &self,
        view: &View,
        message: &Message,
        sender: &Address,
        error: ChainError,
    ) -> Result<(), DriveError> {
        let Some(exit) = error.exit_code().filter(|_| !error.is_not_enough_funds()) else {
            return Err(self.waits_for(message, sender, error));
        };
        match self.now(view).refused(&message.tries, exit) {
            Refusal::ForNow { since, until } => {
                if message.tries.refused_epoch.is_none() {
                    self.note_refusal(message, Some(since)).await?;
                }
                let (what, said) = (message.key.clone(), error.to_string());
                Err(WaitReason::RefusedForNow { what, exit, since, until, said }.into())
            }
            Refusal::Final => {
                let report = ErrorReport::from_error(ErrorClass::Perm, decide::refusal(message.kind), &error);
                self.give_up(message, Some(ExitCode::value(exit)), &report, Input::Refused(report.clone())).await
            }
        }
    }

    /// What a failed call means for a message: a wait with a named reason, or a fault of the node.
    pub(super) fn waits_for(&self, message: &Message, sender: &Address, error: ChainError) -> DriveError {
        let (what, said) = (message.key.clone(), error.to_string());
        if error.is_not_enough_funds() {
            let who = match error.exit_code() {
                Some(ExitCode::InsufficientFunds) => format!("miner {} or its sender {sender}", message.sector.miner),
                _ => sender.to_string(),
            };
            WaitReason::NotEnoughFunds { what, who, said }.into()
        } else if error.is_sender_unknown() {
            WaitReason::SenderNotOnChain { what, sender: sender.to_string(), said }.into()
        } else {
            error.into()
        }
    }

    async fn note_refusal(&self, message: &Message, since: Option<i64>) -> Result<(), DriveError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.note_refusal(message, since).await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn note_signed(
        &self,
        tx: &mut Tx,
        message: &Message,
        kind: &str,
        cid: &str,
        signed: &Unsigned,
        limit: &FeeLimit,
    ) -> Result<(), DriveError> {
        let mut detail = json!({
            "message": message.kind.name(), "cid": cid, "nonce": signed.sequence, "from": signed.from.to_string(),
            "fee_cap_atto": signed.gas_fee_cap.atto().to_string(), "gas_limit": signed.gas_limit,
        });
        if limit.percent > 100 {
            let percent = limit.percent;
            tracing::warn!(message = %message.key, percent, "its fee limit is raised, because its last epoch nears");
            detail["fee_limit_percent"] = json!(percent);
        }
        tx.add_history(message.sector, Happening::of_manager(kind, detail), Verdict::Noted).await?;
        Ok(())
    }
}

/// How many epochs are left in which a sector's message can land. `None`: any number.
fn epochs_left(view: &View, sector: &Job) -> Option<i64> {
    sector.last_epoch().map(|last| last - view.head.height)
}

/// The gas fees of a message within the operator's limit. An error if it cannot land for that.
pub(super) fn affordable(view: &View, what: String, gas: Gas, limit: &FeeLimit) -> Result<Gas, DriveError> {
    let waits = |source| WaitReason::Fee { what, source };
    Ok(gas.clamped(limit, &view.base_fee()).map_err(waits)?)
}

//! Checks what must hold before a message is signed, and signs.

use fvm_shared::{address::Address, message::Message as Unsigned};
use sealbus_schema::{ErrorClass, ErrorReport, MinerId, workflows::Input};
use serde_json::json;

use super::{key_of, note_all};
use crate::{
    chain::{
        Error as ChainError, Transport, WaitReason,
        exit::ExitCode,
        fees::{FeeLimit, Gas},
        message::SignedMessage,
        node::SignError,
    },
    config::Fees,
    drive::{
        DriveError, Driver, View,
        decide::{self, Refusal},
    },
    store::{Envelope, Job, Message, Signed, Tx},
    workflows::{Call, Wanted},
};

/// A message that may be signed now, alone or with others.
#[derive(Debug)]
pub(in crate::drive) struct Prepared {
    /// The message.
    pub message: Message,
    /// Its sector's job, as it was read.
    pub job: Job,
    /// What it asks of the miner actor.
    pub call: Call,
}

impl<T: Transport + 'static> Driver<T> {
    /// Whether a message may be signed now. `None` if not.
    pub(in crate::drive) async fn prepare(
        &self,
        view: &View,
        message: Message,
    ) -> Result<Option<Prepared>, DriveError> {
        let Some(job) = self.sector_of(&message).await? else { return Ok(None) };
        let wanted = self.consult(view, &job, |now, known| decide::wanted(&message, &job, now, known)).await?;
        let Some(wanted) = wanted else { return Ok(None) };
        if matches!(wanted, Wanted::Sign(_) | Wanted::WaitFor(_) | Wanted::GiveUp { .. })
            && let Some(earlier) = self.store.earlier(&message).await?
        {
            return Err(WaitReason::EarlierMessage { what: message.key.clone(), earlier }.into());
        }
        let call = match wanted {
            Wanted::Sign(call) => call,
            Wanted::Wait => return Ok(None),
            Wanted::WaitFor(reason) => return Err(reason.into()),
            Wanted::Over(why) => {
                let mut tx = self.store.begin_as(self.epoch).await?;
                tx.mark_failed(&message, None, why).await?;
                return Ok(tx.commit().await.map(|()| None)?);
            }
            Wanted::GiveUp { error, input } => {
                return self.give_up(&message, None, &error, input).await.map(|()| None);
            }
            Wanted::Apply(input) => return Ok(self.apply(job.id, input).await.map(|()| None)?),
        };
        self.wait_until_earlier_cannot_land(view, &message).await?;
        self.wait_for_base_fee(view, &message, &job)?;
        Ok(Some(Prepared { message, job, call }))
    }

    /// A reorganisation below the confident tipset may have freed the nonce of an earlier call for the same. That could land
    /// after all, so its nonce must be used first: by that call if it was executed before, or else by a filler. A messager looks
    /// after its nonces itself.
    async fn wait_until_earlier_cannot_land(&self, view: &View, message: &Message) -> Result<(), DriveError> {
        if self.messager.is_some() {
            return Ok(());
        }
        for (sender, nonce) in self.store.spent(message).await? {
            let from = key_of(&sender)?;
            if self.next_on_chain(view, &from).await? <= nonce {
                self.push_again(&self.store.over_between(&sender, nonce, nonce + 1).await?).await?;
                self.fill_gap(view, (message.miner, message.sector), &from, nonce + 1).await?;
                let earlier = format!("nonce {nonce} of {sender}");
                return Err(WaitReason::EarlierMessage { what: message.key.clone(), earlier }.into());
            }
        }
        Ok(())
    }

    /// What a miner's messages may cost.
    pub(super) fn fees(&self, miner: MinerId) -> &Fees {
        self.config.fees(miner)
    }

    /// Waits while the base fee is higher than the operator wants to pay and the message is not urgent.
    fn wait_for_base_fee(&self, view: &View, message: &Message, sector: &Job) -> Result<(), WaitReason> {
        let (fees, base_fee) = (self.fees(message.miner), view.base_fee());
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
        what: &str,
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
        Err(WaitReason::NotEnoughFunds { what: what.to_owned(), who: unsigned.from.to_string(), said }.into())
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
        group: &[&Message],
        unsigned: &Unsigned,
        envelope: Envelope,
        limit: &FeeLimit,
    ) -> Result<Signed, DriveError> {
        let (sender, nonce, epoch) = (unsigned.from.to_string(), unsigned.sequence, view.head.height);
        let call = tx.save_signed(group, &sender, nonce, epoch, &envelope).await?;
        note_signed(tx, group, "message_signed", &envelope.cid, unsigned, limit).await?;
        Ok(Signed { call, cid: envelope.cid, bytes: envelope.bytes, epoch: Some(epoch) })
    }

    /// Decides what follows from a refused estimate: wait until something changes, wait a few epochs, or give up.
    pub(super) async fn not_taken(
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
                Some(ExitCode::InsufficientFunds) => format!("miner {} or its sender {sender}", message.miner),
                _ => sender.to_string(),
            };
            WaitReason::NotEnoughFunds { what, who, said }.into()
        } else if error.is_sender_unknown() {
            WaitReason::SenderNotOnChain { what, sender: sender.to_string(), said }.into()
        } else {
            error.into()
        }
    }

    pub(super) async fn note_refusal(&self, message: &Message, since: Option<i64>) -> Result<(), DriveError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.note_refusal(message, since).await?;
        Ok(tx.commit().await?)
    }
}

/// Adds the line of a new envelope to the history of each sector that its call is about.
pub(super) async fn note_signed(
    tx: &mut Tx,
    group: &[&Message],
    kind: &str,
    cid: &str,
    signed: &Unsigned,
    limit: &FeeLimit,
) -> Result<(), DriveError> {
    let Some(lead) = group.first() else { return Ok(()) };
    let mut detail = json!({
        "message": lead.kind.name(), "cid": cid, "nonce": signed.sequence, "from": signed.from.to_string(),
        "fee_cap_atto": signed.gas_fee_cap.atto().to_string(), "gas_limit": signed.gas_limit,
    });
    if group.len() > 1 {
        detail["sectors"] = json!(group.len());
    }
    if limit.percent > 100 {
        let percent = limit.percent;
        tracing::warn!(message = %lead.key, percent, "its fee limit is raised, because its last epoch nears");
        detail["fee_limit_percent"] = json!(percent);
    }
    Ok(note_all(tx, group.iter().copied(), kind, &detail).await?)
}

/// How many epochs are left in which a sector's message can land. `None`: any number.
pub(super) fn epochs_left(view: &View, sector: &Job) -> Option<i64> {
    sector.last_epoch().map(|last| last - view.head.height)
}

/// The lower of two numbers of epochs, of which `None` is any number.
pub(super) fn soonest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

/// The gas fees of a message within the operator's limit. An error if it cannot land for that.
pub(super) fn affordable(view: &View, what: String, gas: Gas, limit: &FeeLimit) -> Result<Gas, DriveError> {
    let waits = |source| WaitReason::Fee { what, source };
    Ok(gas.clamped(limit, &view.base_fee()).map_err(waits)?)
}

//! The life of a message: wanted, signed and stored, pushed, seen on chain; or withdrawn, and its nonce filled.
//!
//! There is one want for a purpose, and one call that takes effect for a want, for ever. A call keeps its nonce, and may carry
//! the wants of many sectors. Only stored bytes are pushed. After a push with an unknown outcome, the same bytes are pushed again. A higher fee makes another
//! envelope of the same call with the same nonce. Another call follows only when the nonce was used on the confident part of
//! the chain, by something else or by a call that failed. So no crash and no race can make two of them land. [`delegated`] has
//! the same for calls that the messager sends.

use fvm_shared::{address::Address, message::Message as Unsigned};
use sealbus_schema::{ErrorReport, SectorId, workflows::Input};
use serde_json::{Value, json};

use super::{
    DriveError, Driver, View, address,
    decide::{self, Followed, Seen},
};
use crate::{
    chain::{
        Error as ChainError, PushRefusal, Transport, WaitReason,
        batch::BatchReturn,
        exit::ExitCode,
        json as wire,
        message::{self, SignedMessage},
        types::MessageLookup,
    },
    life,
    store::{ErrandState, Happening, Job, Message, MessageKind, MessageState, Place, Signed, StoreError, Tx, Verdict},
    workflows::{self, error_detail},
};

mod aggregating;
mod call;
mod delegated;
mod errands;
mod groups;
mod nonces;
mod ready;
mod signing;

pub(super) use aggregating::Aggregations;
pub(super) use signing::Prepared;

/// A message is searched for from this many epochs before the head at its signing, because a reorganisation may include
/// it earlier.
const SEARCH_MARGIN: i64 = 20;

impl<T: Transport + 'static> Driver<T> {
    /// Takes the next step of a call. `group` is what it carries and what has not ended yet, in its order; or a filler, or an
    /// errand. All have the call's state.
    pub(super) async fn step_call(&self, view: &View, group: &[Message]) -> Result<(), DriveError> {
        let Some(lead) = group.first() else { return Ok(()) };
        match &lead.state {
            // Signing groups of these is done elsewhere.
            MessageState::Wanted => Ok(()),
            MessageState::Reserved { sender, nonce, .. } => match self.fill(view, lead, sender, *nonce).await? {
                Some(signed) => self.push(view, group, &signed).await,
                None => Ok(()),
            },
            MessageState::Signed(signed) | MessageState::Pushed { signed, .. }
                if self.is_unwanted(view, group).await? =>
            {
                self.withdraw(group, signed).await
            }
            MessageState::Signed(signed) => self.push(view, group, signed).await,
            MessageState::Pushed { signed, epoch } => self.follow(view, group, signed, *epoch).await,
            MessageState::Withdrawn(signed) => self.see_withdrawn(view, group, signed).await,
            MessageState::Delegated(delegated) => self.step_delegated(view, group, delegated).await,
        }
    }

    /// Whether to withdraw a call. One that also carries what is urgent is left alone: a nonce takes a while to be free again.
    async fn is_unwanted(&self, view: &View, group: &[Message]) -> Result<bool, DriveError> {
        let (mut unwanted, mut urgent) = (false, false);
        for message in group {
            if let Some(errand) = message.errand {
                let errand = self.store.errand(errand).await?;
                return Ok(errand.is_some_and(|errand| errand.state == ErrandState::Withdrawn));
            }
            let Some(sector) = self.sector_of(message).await?.filter(|_| message.want.is_some()) else { continue };
            match decide::unwanted(message, &sector) {
                true => unwanted = true,
                false => urgent |= self.fees(message.miner).is_urgent(signing::epochs_left(view, &sector)),
            }
        }
        Ok(unwanted && !urgent)
    }

    /// The job of the sector that a message is about, if there is one.
    async fn sector_of(&self, message: &Message) -> Result<Option<Job>, DriveError> {
        match message.sector {
            Some(sector) => Ok(self.store.sector(sector).await?),
            None => Ok(None),
        }
    }

    pub(super) async fn push(&self, view: &View, group: &[Message], signed: &Signed) -> Result<(), DriveError> {
        let Some(lead) = group.first() else { return Ok(()) };
        let bytes = SignedMessage::from_bytes(&signed.bytes)?;
        // A second sender could do no harm, because the call is the only one for its purpose. But only the holder of the
        // fold should send.
        self.store.check_epoch(self.epoch).await?;
        if let Err(error) = self.node.mpool_push(&bytes).await {
            match error.push_refusal() {
                // It landed, or another message took its nonce. Following the message shows which.
                Some(PushRefusal::Known | PushRefusal::NonceUsed) => {}
                Some(refusal) => {
                    let (from, nonce) = (bytes.message().from, bytes.message().sequence);
                    // A pool may check the fee or the funds before the nonce.
                    if !self.nonce_used(view, &from, nonce).await? {
                        return self.not_pushed(view, group, signed, &bytes, refusal, error).await;
                    }
                }
                None => return Err(error.into()),
            }
        }
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.mark_pushed(signed.call, view.head.height).await?;
        let detail = json!({ "message": lead.kind.name(), "cid": signed.cid, "head_epoch": view.head.height });
        note_all(&mut tx, group.iter(), "message_pushed", &detail).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Decides what follows if the pool refuses the bytes: they stay as they are, or the call gets another envelope.
    async fn not_pushed(
        &self,
        view: &View,
        group: &[Message],
        signed: &Signed,
        bytes: &SignedMessage,
        refusal: PushRefusal,
        error: ChainError,
    ) -> Result<(), DriveError> {
        let Some(lead) = group.first() else { return Ok(()) };
        let (from, nonce) = (bytes.message().from, bytes.message().sequence);
        let (what, sender, said) = (name_of(group.iter()), from.to_string(), error.to_string());
        Err(match refusal {
            PushRefusal::FeeCapTooLow => return self.sign_for_more(view, group, signed, None).await,
            PushRefusal::NonceTaken { premium_min_atto } if lead.kind == MessageKind::Filler => {
                return self.sign_for_more(view, group, signed, premium_min_atto).await;
            }
            PushRefusal::NonceTaken { .. } => WaitReason::NonceTaken { sender, nonce, said },
            PushRefusal::NonceGap => {
                self.fill_gap(view, (lead.miner, lead.sector), &from, nonce).await?;
                WaitReason::NonceGap { what, sender, said }
            }
            PushRefusal::NotEnoughFunds => WaitReason::NotEnoughFunds { what, who: sender, said },
            PushRefusal::PoolFull | PushRefusal::Other => WaitReason::PoolRefuses { what, said },
            // Handled by the caller.
            PushRefusal::Known | PushRefusal::NonceUsed => return Ok(()),
        }
        .into())
    }

    /// Searches for a pushed call in the confident part of the chain.
    async fn follow(&self, view: &View, group: &[Message], signed: &Signed, pushed: i64) -> Result<(), DriveError> {
        let Some(lead) = group.first() else { return Ok(()) };
        let bytes = SignedMessage::from_bytes(&signed.bytes)?;
        let sent = bytes.message();
        if let Some(found) = self.find(view, signed, &bytes).await? {
            return self.see_executed(view, group, signed, sent, pushed, &found).await;
        }
        let waited = view.head.height - pushed >= self.config.chain.repush_epochs;
        let next = self.next_on_chain(view, &sent.from).await?;
        if next > sent.sequence {
            for message in group {
                let sector = self.seen_by_sector(view, message).await?;
                let seen = Seen::Absent { nonce_used: true };
                self.resolve(view, message, sector, signed, (sent, pushed), seen, &[]).await?;
            }
            return Ok(());
        }
        if next < sent.sequence {
            let sender = sent.from.to_string();
            self.push_again(&self.store.over_between(&sender, next, sent.sequence).await?).await?;
            if waited {
                self.fill_gap(view, (lead.miner, lead.sector), &sent.from, sent.sequence).await?;
            }
        }
        if !waited {
            return Ok(());
        }
        if view.head.base_fee().is_some_and(|base| !message::gas_of(sent).covers(base)) {
            return self.sign_for_more(view, group, signed, None).await;
        }
        if let Some(premium_atto) = self.outbid_by(view, lead, sent).await? {
            match self.sign_for_more(view, group, signed, Some(premium_atto)).await {
                // The limit does not allow so much. The same bytes are pushed again, because a pool may have forgotten them.
                Err(DriveError::Waits(_)) => {}
                outcome => return outcome,
            }
        }
        self.push(view, group, signed).await
    }

    /// Sees to a call that was executed. Whether it took effect for a sector is read from the sector's state.
    async fn see_executed(
        &self,
        view: &View,
        group: &[Message],
        signed: &Signed,
        sent: &Unsigned,
        pushed: i64,
        found: &MessageLookup,
    ) -> Result<(), DriveError> {
        for message in group {
            let (exit, shared_by) = exit_of(message, found);
            let seen = Seen::Executed { height: found.height, exit, gas_limit: sent.gas_limit, shared_by };
            let sector = self.seen_by_sector(view, message).await?;
            self.resolve(view, message, sector, signed, (sent, pushed), seen, &found.receipt.return_bytes).await?;
        }
        Ok(())
    }

    /// The job of a message's sector. The effect of the message, or of another envelope of its call that this database does not
    /// know, shows in the sector's state, so the sector is processed first.
    async fn seen_by_sector(&self, view: &View, message: &Message) -> Result<Option<Job>, DriveError> {
        let sector = self.sector_of(message).await?;
        match &sector {
            Some(known) if workflows::awaits(message.kind, known) => {
                self.step_sector(view, known).await?;
                self.sector_of(message).await
            }
            _ => Ok(sector),
        }
    }

    /// Decides and stores what follows for one message of a call.
    #[allow(clippy::too_many_arguments, reason = "what is known of one message")]
    async fn resolve(
        &self,
        view: &View,
        message: &Message,
        sector: Option<Job>,
        signed: &Signed,
        (sent, pushed): (&Unsigned, i64),
        seen: Seen,
        returned: &[u8],
    ) -> Result<(), DriveError> {
        let what = format!("message {} (nonce {} of {})", signed.cid, sent.sequence, sent.from);
        let repush = self.config.chain.repush_epochs;
        let followed = self.now(view).followed(message, sector.as_ref(), pushed, repush, seen, &what);
        self.conclude(message, followed, &signed.cid, returned).await
    }

    /// Stores what follows for one message of a call. `cid` and `returned` are those of a call that landed.
    async fn conclude(
        &self,
        message: &Message,
        followed: Followed,
        cid: &str,
        returned: &[u8],
    ) -> Result<(), DriveError> {
        match followed {
            // The same bytes are pushed once for all that a call carries, and only while it is not on chain.
            Followed::Wait | Followed::Push => Ok(()),
            Followed::Landed { height } => self.executed(message, cid, height, returned).await,
            Followed::Replaced { why } => self.replaced(message, &why).await,
            Followed::Again { exit, error, tries } => {
                let mut tx = self.store.begin_as(self.epoch).await?;
                tx.want_another(message, exit, &error.message(), tries).await?;
                let mut detail = error_detail(&error);
                detail["again"] = json!(true);
                note_all(&mut tx, std::iter::once(message), "message_failed", &detail).await?;
                tx.commit().await?;
                tracing::info!(message = %message.key, why = %error.message(), "signed anew");
                self.changed.ring();
                Ok(())
            }
            Followed::GiveUp { exit, error } => {
                self.give_up(message, exit, &error, Input::Refused(error.clone())).await
            }
        }
    }

    /// Where any envelope of a call was executed, up to the confident tipset.
    async fn find(
        &self,
        view: &View,
        signed: &Signed,
        bytes: &SignedMessage,
    ) -> Result<Option<MessageLookup>, DriveError> {
        let limit = signed.epoch.map(|epoch| (view.lagged.height - epoch + SEARCH_MARGIN).max(1));
        let mut cids = vec![bytes.cid()?];
        for bytes in self.store.envelopes(signed.call).await? {
            cids.push(SignedMessage::from_bytes(&bytes)?.cid()?);
        }
        for cid in cids {
            match self.node.search_msg(&view.lagged.key, view.lagged.height, &cid, limit, true).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                // Whether it can still land follows from the sender's nonce.
                Err(error) if error.is_message_unknown() || error.is_replaced() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The next nonce that the chain accepts from a key, at the confident tipset.
    pub(super) async fn next_on_chain(&self, view: &View, from: &Address) -> Result<u64, DriveError> {
        Ok(self.node.get_actor(from, &view.lagged.key).await?.map_or(0, |actor| actor.nonce))
    }

    async fn nonce_used(&self, view: &View, from: &Address, nonce: u64) -> Result<bool, DriveError> {
        Ok(self.next_on_chain(view, from).await? > nonce)
    }

    /// Pushes a sector's PreCommit again after it had landed and vanished from the chain, together with any missing
    /// message before it. If something else has used its nonce meanwhile, another PreCommit is wanted.
    pub(super) async fn push_precommit_again(&self, view: &View, sector: SectorId) -> Result<(), DriveError> {
        let landed = self.store.landed(MessageKind::PreCommit, sector).await?;
        // If none had landed, it was that of a withdrawn call, which is not pushed again.
        let mut is_lost = true;
        for bytes in landed {
            let signed = SignedMessage::from_bytes(&bytes)?;
            let sent = signed.message();
            let next = self.next_on_chain(view, &sent.from).await?;
            is_lost &= next > sent.sequence;
            // A message of another tool may have had a nonce before it, and have vanished too.
            self.fill_gap(view, (sector.miner, Some(sector)), &sent.from, sent.sequence).await?;
            let forgotten = self.store.over_between(&sent.from.to_string(), next, sent.sequence + 1).await?;
            self.push_again(&forgotten).await?;
        }
        let (miner, number) = (address(sector.miner), sector.number.0);
        // An active sector has no PreCommit either, so check that it is not active.
        if is_lost && self.node.sector_info(&miner, number, &view.lagged.key).await?.is_none() {
            let mut tx = self.store.begin_as(self.epoch).await?;
            if !tx.want_precommit_again(sector).await? {
                return Ok(());
            }
            let detail = json!({ "why": "a reorganisation took it from the chain, and its nonce is used" });
            tx.add_history(sector, Happening::of_manager("precommit_lost", detail), Verdict::Noted).await?;
            tx.commit().await?;
            tracing::warn!(%sector, "its PreCommit is gone from the chain for good; another one follows");
            self.changed.ring();
        }
        Ok(())
    }

    /// Pushes messages that had landed and are no longer on chain: a reorganisation went deeper than our confidence, and
    /// the nodes have forgotten them. Without them, no later nonce could land.
    pub(super) async fn push_again(&self, forgotten: &[Vec<u8>]) -> Result<(), DriveError> {
        for bytes in forgotten {
            match self.node.mpool_push(&SignedMessage::from_bytes(bytes)?).await {
                Ok(cid) => tracing::warn!(%cid, "a message that had landed is gone from the chain; pushed again"),
                Err(error) if error.is_already_in_mpool() || error.is_nonce_too_low() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn give_up(
        &self,
        message: &Message,
        exit: Option<u32>,
        error: &ErrorReport,
        input: Input,
    ) -> Result<(), DriveError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.mark_failed(message, exit, &error.message()).await?;
        if let Some(sector) = message.sector
            && let Some(sector) = tx.sector(sector).await?
        {
            let happening = Happening::of_manager("message_failed", error_detail(error));
            life::apply(&mut tx, sector, input, happening, self.policy()).await?;
        } else {
            tracing::warn!(message = %message.key, why = %error.message(), "failed");
        }
        tx.commit().await?;
        self.changed.ring();
        Ok(())
    }

    async fn note(&self, message: &Message, kind: &str, detail: Value, change: Change<'_>) -> Result<(), DriveError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        match change {
            Change::Executed(epoch, returned) => tx.mark_executed(message, epoch, returned).await?,
            Change::Failed(exit, why) => tx.mark_failed(message, Some(exit.value()), why).await?,
            Change::Replaced(why) => tx.mark_replaced(message, why).await?,
        }
        note_all(&mut tx, std::iter::once(message), kind, &detail).await?;
        tx.commit().await?;
        self.changed.ring();
        Ok(())
    }

    async fn executed(&self, message: &Message, cid: &str, epoch: i64, returned: &[u8]) -> Result<(), DriveError> {
        let detail = json!({ "message": message.kind.name(), "cid": cid, "epoch": epoch });
        self.note(message, "message_executed", detail, Change::Executed(epoch, returned)).await
    }

    async fn replaced(&self, message: &Message, why: &str) -> Result<(), DriveError> {
        let detail = json!({ "message": message.kind.name(), "why": why });
        self.note(message, "message_replaced", detail, Change::Replaced(why)).await
    }
}

/// A change of a message that is stored together with a line of history.
enum Change<'a> {
    Executed(i64, &'a [u8]),
    Failed(ExitCode, &'a str),
    Replaced(&'a str),
}

/// Adds a line to the history of each sector that a call is about.
async fn note_all(
    tx: &mut Tx,
    group: impl Iterator<Item = &Message>,
    kind: &str,
    detail: &Value,
) -> Result<(), StoreError> {
    for sector in group.filter_map(|message| message.sector) {
        tx.add_history(sector, Happening::of_manager(kind, detail.clone()), Verdict::Noted).await?;
    }
    Ok(())
}

/// The name of a call for people.
fn name_of<'m>(mut group: impl Iterator<Item = &'m Message>) -> String {
    let Some(first) = group.next() else { return String::new() };
    match group.count() {
        0 => first.key.clone(),
        others => format!("{} and {others} more", first.key),
    }
}

/// The outcome of an executed call for one message, and how many share it because the call failed as a whole.
fn exit_of(message: &Message, found: &MessageLookup) -> (ExitCode, u32) {
    let Place { position, of } = message.place;
    match found.receipt.exit_code {
        ExitCode::Ok if message.kind == MessageKind::ProveCommit => {
            let codes = BatchReturn::decode(&found.receipt.return_bytes, of as usize);
            let exit = codes.ok().and_then(|codes| codes.get(position as usize).copied()).unwrap_or(ExitCode::Ok);
            (exit, 1)
        }
        exit => (exit, of),
    }
}

/// The key address for an address from the database.
fn key_of(sender: &str) -> Result<Address, DriveError> {
    let read = wire::parse_address(sender);
    let bad = |error| DriveError::Config { field: format!("sender {sender} of a stored message"), problem: error };
    Ok(read.map_err(|error| bad(error.to_string()))?.0)
}

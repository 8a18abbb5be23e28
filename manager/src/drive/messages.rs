//! The life of a message: wanted, signed and stored, pushed, seen.
//!
//! Nothing is pushed that is not stored, and what is stored is the only thing ever pushed for its purpose. A push whose
//! outcome is unknown is followed by the same bytes.

use fvm_shared::{address::Address, message::Message as Unsigned};
use sealbus_schema::{
    ErrorClass, ErrorReport, SectorId,
    seal::manager::{Input, Proven, Sealed, State},
};
use serde_json::json;

use super::{
    DriveError, Driver, View, address, chain_of,
    decide::{self, Followed, Seen, Wanted},
    error_detail,
};
use crate::{
    chain::{
        Error as ChainError, Transport,
        batch::BatchReturn,
        commitment::sealed_cid,
        exit::{ExitClass, ExitCode},
        message::{self, SignedMessage},
        network,
        params::{
            PreCommitSectorBatchParams2, ProveCommitSectors3Params, SectorActivationManifest, SectorPreCommitInfo,
        },
    },
    life,
    store::{Happening, Message, MessageKind, MessageState, Sector, Signed},
};

impl<T: Transport + 'static> Driver<T> {
    pub(super) async fn step_message(&self, view: &View, message: Message) -> Result<(), DriveError> {
        match &message.state {
            MessageState::Wanted => match self.sign(view, &message).await? {
                Some(signed) => self.push(view, &message, &signed).await,
                None => Ok(()),
            },
            MessageState::Signed(signed) => self.push(view, &message, signed).await,
            MessageState::Pushed { signed, epoch } => self.follow(view, &message, signed, *epoch).await,
        }
    }

    /// Builds, checks and signs a message, and stores its bytes. None if it is not to be sent now.
    async fn sign(&self, view: &View, message: &Message) -> Result<Option<Signed>, DriveError> {
        let Some(sector) = self.store.sector(message.sector).await? else { return Ok(None) };
        match self.now(view).wanted(message, &sector) {
            Wanted::Sign => {}
            Wanted::Wait => return Ok(None),
            Wanted::Over => {
                let mut tx = self.store.begin_as(self.epoch).await?;
                tx.mark_failed(&message.key, None, "the attempt that wanted it is over").await?;
                return Ok(tx.commit().await.map(|()| None)?);
            }
            Wanted::GiveUp(expired) => {
                return self.give_up(message, None, &expired, Input::Expired(expired.clone())).await.map(|()| None);
            }
        }
        let sender = self.sender(sector.id.miner, view).await?;
        let version = self.node.network_version(&view.head.key).await?;
        network::check_supported(version)?;
        let unsigned = match (&sector.state, message.kind) {
            (State::PreCommitting(sealed), MessageKind::PreCommit) => {
                self.precommit(view, &sector, sealed, sender).await?
            }
            (State::ProveCommitting(proven), MessageKind::ProveCommit) => {
                match self.prove_commit(view, &sector, proven, sender, version).await? {
                    Some(unsigned) => unsigned,
                    None => return Ok(None),
                }
            }
            // Blocked, or gone on by another way: nothing is signed for it.
            _ => return Ok(None),
        };
        // The estimate executes the message: it is the check whether the chain would take it.
        let gas = match self.node.gas_estimate(&unsigned, &self.max_fee, &view.head.key).await {
            Ok(gas) => gas.clamped(&self.max_fee).map_err(message::Error::from)?,
            Err(error) => return self.not_taken(message, error).await.map(|()| None),
        };
        let key = sender.to_string();
        let nonce = self.node.mpool_get_nonce(&sender).await?.max(self.store.next_nonce(&key).await?);
        let unsigned = message::with_gas_and_nonce(unsigned, gas, nonce);
        message::check_before_signing(&unsigned, &self.max_fee)?;
        let signed = self.node.wallet_sign_message(&unsigned).await?;
        let (cid, bytes) = (signed.cid()?.to_string(), signed.to_bytes()?);
        // Nobody else signs for this epoch's holder, and the index over sender and nonce would refuse a second message.
        let mut tx = self.store.begin_as(self.epoch).await?;
        if !decide::still_wanted(&sector, tx.sector(sector.id).await?.as_ref()) {
            return Ok(None);
        }
        tx.save_signed(&message.key, &key, nonce, &cid, &bytes).await?;
        let detail = json!({ "message": message.kind.name(), "cid": cid, "nonce": nonce, "from": key });
        let happening = Happening::of_manager("message_signed", detail);
        tx.add_history(sector.id, happening, crate::store::Verdict::Noted).await?;
        tx.commit().await?;
        Ok(Some(Signed { cid, bytes }))
    }

    async fn precommit(
        &self,
        view: &View,
        sector: &Sector,
        sealed: &Sealed,
        sender: Address,
    ) -> Result<Unsigned, DriveError> {
        let lifetime = self.config.miner(sector.id.miner).and_then(|miner| miner.lifetime_days);
        let wanted = super::wanted_expiration(lifetime, view.head.height);
        let info = SectorPreCommitInfo {
            seal_proof: sector.proof.number().into(),
            sector_number: sector.id.number.0,
            sealed_cid: sealed_cid(&sealed.comm_r.0)?,
            seal_rand_epoch: sealed.ticket.epoch,
            deal_ids: Vec::new(),
            expiration: self.rules.choose_expiration(sealed.ticket.epoch, view.head.height, wanted)?,
            // Committed capacity; its CommD is the zero sector's and stays unnamed.
            unsealed_cid: None,
        };
        let miner = address(sector.id.miner);
        let deposit = self.node.pre_commit_deposit_for_power(&miner, &info, &view.head.key).await?;
        let params = PreCommitSectorBatchParams2 { sectors: vec![info] };
        Ok(message::pre_commit(sender, miner, &params, deposit)?)
    }

    async fn prove_commit(
        &self,
        view: &View,
        sector: &Sector,
        proven: &Proven,
        sender: Address,
        version: u32,
    ) -> Result<Option<Unsigned>, DriveError> {
        let miner = address(sector.id.miner);
        let number = sector.id.number.0;
        let Some(precommit) = self.node.sector_pre_commit_info(&miner, number, &view.head.key).await? else {
            return Ok(None);
        };
        let bytes = sector.proof.sector_size().bytes();
        let verified = network::pledge_verified_bytes(version, bytes, 0);
        let duration = precommit.info.expiration - view.head.height;
        let pledge = self.node.initial_pledge_for_sector(duration, bytes, verified, &view.head.key).await?;
        let value = message::prove_commit_value(&[(pledge, precommit.pre_commit_deposit)]);
        let activation = SectorActivationManifest::committed_capacity(number);
        let params = ProveCommitSectors3Params::single(activation, proven.proof.0.clone());
        Ok(Some(message::prove_commit(sender, miner, &params, value)?))
    }

    async fn push(&self, view: &View, message: &Message, signed: &Signed) -> Result<(), DriveError> {
        let bytes = SignedMessage::from_bytes(&signed.bytes)?;
        // These bytes are the only ones for their purpose, whoever sends them; yet sending is the holder's business.
        self.store.check_epoch(self.epoch).await?;
        match self.node.mpool_push(&bytes).await {
            Ok(_) => {}
            Err(error) if error.is_already_in_mpool() => {}
            // It landed, or another message took its nonce; following it tells which.
            Err(error) if error.is_nonce_too_low() => {}
            Err(error) => {
                tracing::warn!(sector = %message.sector, cid = %signed.cid, error = %chain_of(&error), "not pushed; the same bytes follow");
                return Err(error.into());
            }
        }
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.mark_pushed(&message.key, view.head.height).await?;
        let detail = json!({ "message": message.kind.name(), "cid": signed.cid, "head_epoch": view.head.height });
        let happening = Happening::of_manager("message_pushed", detail);
        tx.add_history(message.sector, happening, crate::store::Verdict::Noted).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Looks for a pushed message in the confident part of the chain. Its success shows in the sector's state.
    async fn follow(&self, view: &View, message: &Message, signed: &Signed, pushed: i64) -> Result<(), DriveError> {
        let bytes = SignedMessage::from_bytes(&signed.bytes)?;
        let found = match self.node.search_msg(&view.lagged.key, view.lagged.height, &bytes.cid()?, true).await {
            Ok(found) => found,
            Err(error) if error.is_message_unknown() => None,
            Err(error) => return Err(error.into()),
        };
        let seen = match found {
            None => {
                let actor = self.node.get_actor(&bytes.message().from, &view.lagged.key).await?;
                let (next, ours) = (actor.map_or(0, |actor| actor.nonce), bytes.message().sequence);
                if next < ours {
                    let sender = bytes.message().from.to_string();
                    self.push_again(&self.store.over_between(&sender, next, ours).await?).await?;
                }
                Seen::Absent { nonce_used: next > ours }
            }
            Some(found) => {
                let exit = match found.receipt.exit_code {
                    ExitCode::Ok if message.kind == MessageKind::ProveCommit => {
                        let codes = BatchReturn::decode(&found.receipt.return_bytes, 1);
                        codes.ok().and_then(|codes| codes.first().copied()).unwrap_or(ExitCode::Ok)
                    }
                    exit => exit,
                };
                Seen::Executed { height: found.height, exit }
            }
        };
        let sector = self.store.sector(message.sector).await?;
        let what = format!("message {} (nonce {} of {})", signed.cid, bytes.message().sequence, bytes.message().from);
        let repush = self.config.chain.repush_epochs;
        match self.now(view).followed(message, sector.as_ref(), pushed, repush, seen, &what) {
            Followed::Wait => Ok(()),
            Followed::Push => self.push(view, message, signed).await,
            Followed::GiveUp { exit, error } => {
                self.give_up(message, exit, &error, Input::Refused(error.clone())).await
            }
        }
    }

    /// Pushes a sector's PreCommit again that had landed and is not on chain any more, behind whatever is missing before it.
    pub(super) async fn push_precommit_again(&self, view: &View, sector: SectorId) -> Result<(), DriveError> {
        for bytes in self.store.landed(MessageKind::PreCommit, sector).await? {
            let signed = SignedMessage::from_bytes(&bytes)?;
            let sent = signed.message();
            let actor = self.node.get_actor(&sent.from, &view.lagged.key).await?;
            let next = actor.map_or(0, |actor| actor.nonce);
            let forgotten = self.store.over_between(&sent.from.to_string(), next, sent.sequence + 1).await?;
            self.push_again(&forgotten).await?;
        }
        Ok(())
    }

    /// Pushes what had landed and is not on chain any more: a reorganisation went deeper than our confidence, and the
    /// nodes forgot it. Nothing behind it could land.
    async fn push_again(&self, forgotten: &[Vec<u8>]) -> Result<(), DriveError> {
        for bytes in forgotten {
            match self.node.mpool_push(&SignedMessage::from_bytes(bytes)?).await {
                Ok(cid) => tracing::warn!(%cid, "a message that had landed is gone from the chain; pushed again"),
                Err(error) if error.is_already_in_mpool() || error.is_nonce_too_low() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The node refused to estimate: either for now, or for good.
    async fn not_taken(&self, message: &Message, error: ChainError) -> Result<(), DriveError> {
        let refused_for_good =
            error.exit_code().is_some_and(|exit| exit.class() == ExitClass::Refused) && !error.is_transient();
        if !refused_for_good {
            return Err(error.into());
        }
        let report = ErrorReport::from_error(ErrorClass::Perm, decide::refusal(message.kind), &error);
        let exit = error.exit_code().map(ExitCode::value);
        self.give_up(message, exit, &report, Input::Refused(report.clone())).await
    }

    async fn give_up(
        &self,
        message: &Message,
        exit: Option<u32>,
        error: &ErrorReport,
        input: Input,
    ) -> Result<(), DriveError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.mark_failed(&message.key, exit, &error.message()).await?;
        if let Some(sector) = tx.sector(message.sector).await? {
            let happening = Happening::of_manager("message_failed", error_detail(error));
            life::apply(&mut tx, sector, input, happening, self.policy()).await?;
        }
        tx.commit().await?;
        self.changed.notify_waiters();
        Ok(())
    }
}

//! Landing: read from the sector's state at a confident tipset, never from a receipt alone.

use sealbus_schema::workflows::{
    self, Input,
    seal::manager::{Answer, Proven, Sealed},
};

use super::{
    DriveError, Driver, View, address,
    decide::{self, Found},
};
use crate::{
    chain::{Transport, commitment::sealed_cid},
    life,
    store::{Happening, Job, MessageKind},
};

impl<T: Transport + 'static> Driver<T> {
    pub(super) async fn look_for_precommit(
        &self,
        view: &View,
        sector: &Job,
        sealed: &Sealed,
    ) -> Result<(), DriveError> {
        let found = self.precommit_on_chain(view, sector, sealed).await?;
        match self.now(view).precommit_found(sector, sealed, found) {
            Some(input) => self.landed(sector, MessageKind::PreCommit, input).await,
            None => Ok(()),
        }
    }

    pub(super) async fn look_for_sector(&self, view: &View, sector: &Job, proven: &Proven) -> Result<(), DriveError> {
        let (miner, number) = (address(sector.id.miner), sector.id.number.0);
        let sealed = &proven.seeded.stored.precommitted.sealed;
        let ours = sealed_cid(&sealed.comm_r.0)?;
        let found = self.node.sector_info(&miner, number, &view.lagged.key).await?;
        // Of the same tipset: the one goes where the other comes.
        let precommit = match found {
            Some(_) => None,
            None => self.precommit_on_chain(view, sector, sealed).await?,
        };
        let found = found.map(|found| Found { is_ours: found.sealed_cid == ours, epoch: found.activation });
        match self.now(view).sector_found(proven, found, precommit) {
            Some(input) => self.landed(sector, MessageKind::ProveCommit, input).await,
            None if found.is_none() && precommit.is_none() => self.push_precommit_again(view, sector.id).await,
            None => Ok(()),
        }
    }

    /// The PreCommit under a sector's number, at the last confident tipset.
    pub(super) async fn precommit_on_chain(
        &self,
        view: &View,
        sector: &Job,
        sealed: &Sealed,
    ) -> Result<Option<Found>, DriveError> {
        let (miner, number) = (address(sector.id.miner), sector.id.number.0);
        let ours = sealed_cid(&sealed.comm_r.0)?;
        let found = self.node.sector_pre_commit_info(&miner, number, &view.lagged.key).await?;
        Ok(found.map(|found| Found { is_ours: found.info.sealed_cid == ours, epoch: found.pre_commit_epoch }))
    }

    /// The message's end and the sector's step are one transaction.
    async fn landed(&self, sector: &Job, message: MessageKind, input: Input) -> Result<(), DriveError> {
        let landed = match &input {
            Input::Answer(workflows::Answer::Seal(Answer::PreCommitLanded(precommit))) => Some(precommit.epoch),
            Input::Answer(workflows::Answer::Seal(Answer::ProveLanded { activation_epoch })) => Some(*activation_epoch),
            _ => None,
        };
        let (kind, detail) = decide::told(&input);
        let mut tx = self.store.begin_as(self.epoch).await?;
        if let Some(epoch) = landed {
            tx.mark_landed(message, sector.id, epoch).await?;
        }
        if let Some(sector) = tx.sector(sector.id).await? {
            life::apply(&mut tx, sector, input, Happening::of_manager(kind, detail), self.policy()).await?;
        }
        tx.commit().await?;
        self.changed.ring();
        Ok(())
    }
}

//! Landing: read from the sector's state at a confident tipset, never from a receipt alone.

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport,
    seal::manager::{Input, Proven, Sealed},
};
use serde_json::json;

use super::{DriveError, Driver, View, address, error_detail};
use crate::{
    chain::{Transport, commitment::sealed_cid},
    life,
    store::{Happening, MessageKind, Sector},
};

impl<T: Transport + 'static> Driver<T> {
    pub(super) async fn look_for_precommit(
        &self,
        view: &View,
        sector: &Sector,
        sealed: &Sealed,
    ) -> Result<(), DriveError> {
        let miner = address(sector.id.miner);
        let number = sector.id.number.0;
        let Some(found) = self.node.sector_pre_commit_info(&miner, number, &view.lagged.key).await? else {
            return Ok(());
        };
        if found.info.sealed_cid != sealed_cid(&sealed.comm_r.0)? {
            let message = format!("sector {} has another PreCommit on chain, of {}", sector.id, found.info.sealed_cid);
            let error = ErrorReport::new(ErrorClass::Perm, ErrorCode::NUMBER_TAKEN, message);
            let detail = error_detail(&error);
            return Ok(self.apply(sector.id, Input::Refused(error), "precommit_refused", detail).await?);
        }
        let precommit = self.precommit_info(view, found.pre_commit_epoch);
        let detail = json!({ "epoch": precommit.epoch, "prove_by_epoch": precommit.prove_by_epoch });
        let input = Input::PreCommitLanded(precommit);
        self.landed(sector, MessageKind::PreCommit, precommit.epoch, input, "precommit_landed", detail).await
    }

    pub(super) async fn look_for_sector(
        &self,
        view: &View,
        sector: &Sector,
        proven: &Proven,
    ) -> Result<(), DriveError> {
        let miner = address(sector.id.miner);
        let number = sector.id.number.0;
        let Some(found) = self.node.sector_info(&miner, number, &view.lagged.key).await? else {
            return Ok(());
        };
        let comm_r = &proven.seeded.stored.precommitted.sealed.comm_r;
        if found.sealed_cid != sealed_cid(&comm_r.0)? {
            let message = format!("sector {} is active on chain with another replica", sector.id);
            let error = ErrorReport::new(ErrorClass::Perm, ErrorCode::NUMBER_TAKEN, message);
            let detail = error_detail(&error);
            return Ok(self.apply(sector.id, Input::Refused(error), "prove_commit_refused", detail).await?);
        }
        let activation_epoch = found.activation;
        let detail = json!({ "activation_epoch": activation_epoch, "expiration_epoch": found.expiration });
        let input = Input::ProveLanded { activation_epoch };
        self.landed(sector, MessageKind::ProveCommit, activation_epoch, input, "prove_landed", detail).await
    }

    /// The message's end and the sector's step are one transaction.
    async fn landed(
        &self,
        sector: &Sector,
        message: MessageKind,
        epoch: i64,
        input: Input,
        kind: &str,
        detail: serde_json::Value,
    ) -> Result<(), DriveError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.mark_landed(message, sector.id, epoch).await?;
        if let Some(sector) = tx.sector(sector.id).await? {
            life::apply(&mut tx, sector, input, Happening::of_manager(kind, detail), self.policy()).await?;
        }
        tx.commit().await?;
        self.changed.notify_waiters();
        Ok(())
    }
}

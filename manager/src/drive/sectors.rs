//! Asks a sector's workflow what happens next, and carries it out.

use sealbus_schema::{ErrorReport, workflows::Input};

use super::{DriveError, Driver, Step, View, apply_to, decide};
use crate::{
    chain::Transport,
    life,
    store::{Happening, Job, MessageKind, StoreError},
    workflows::{self, Next, error_detail},
};

impl<T: Transport + 'static> Driver<T> {
    pub(super) async fn step_sector(&self, view: &View, sector: &Job) -> Result<Step, DriveError> {
        let next = self.consult(view, sector, |now, known| workflows::next(sector, now, known)).await?;
        match next {
            None => return Ok(Step::Undecided),
            Some(Next::Wait { until }) => return Ok(Step::Later(until)),
            Some(Next::Apply(input)) => self.apply(sector.id, input).await?,
            Some(Next::Landed { kind, epoch, input }) => {
                apply_to(&self.store, self.epoch, sector.id, Some((kind, epoch)), input, self.policy()).await?;
                self.changed.ring();
            }
            Some(Next::Reverted { kind, input }) => self.follow_again(sector, kind, input).await?,
            Some(Next::PushPreCommitAgain) => self.push_precommit_again(view, sector.id).await?,
            Some(Next::GiveUp(cause)) => self.give_up_number(sector, cause).await?,
        }
        Ok(Step::Later(Some(view.head.height + 1)))
    }

    /// Follows a message again that had landed and is gone from the chain, and lets the job know. Both are stored at once.
    async fn follow_again(&self, sector: &Job, kind: MessageKind, input: Input) -> Result<(), StoreError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        let Some(now) = tx.sector(sector.id).await?.filter(|now| decide::stands_as(sector, Some(now))) else {
            return Ok(());
        };
        tracing::warn!(sector = %sector.id, message = kind.name(), "a reorganisation took its message from the chain");
        tx.mark_reverted(kind, sector.id).await?;
        let (told, detail) = decide::told(&input);
        life::apply(&mut tx, now, input, Happening::of_manager(told, detail), self.policy()).await?;
        tx.commit().await?;
        self.changed.ring();
        Ok(())
    }

    /// Gives up a number that somebody else has used. The worker drops what it has, and a pledged sector gets another
    /// number.
    async fn give_up_number(&self, sector: &Job, cause: ErrorReport) -> Result<(), StoreError> {
        let id = sector.id;
        let pledged = self.store.history(id).await?.iter().any(|entry| {
            let happening = &entry.happening;
            happening.kind == "wanted" && happening.detail["why"] == "pledged"
        });
        let mut tx = self.store.begin_as(self.epoch).await?;
        let Some(now) = tx.sector(id).await?.filter(|now| decide::stands_as(sector, Some(now))) else { return Ok(()) };
        tracing::warn!(sector = %id, pledged, "its number is taken on chain; it is given up");
        let happening = Happening::of_manager("number_taken", error_detail(&cause));
        life::apply(&mut tx, now, Input::Abandoned { cause, lose_deposit: false }, happening, self.policy()).await?;
        if pledged {
            tx.add_pledge(&id.miner.to_string(), 1, "sealbus-manager").await?;
        }
        tx.commit().await?;
        self.changed.ring();
        Ok(())
    }
}

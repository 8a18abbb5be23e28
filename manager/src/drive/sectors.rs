//! What a sector in each state waits for from the chain or the store.

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport,
    seal::manager::{Input, PreCommitted, Proven, Stored},
};

use super::{
    DriveError, Driver, View, apply_to,
    decide::{self, Ask, Watched},
};
use crate::{
    chain::{Transport, randomness::Domain},
    files, proofs,
    store::Sector,
};

impl<T: Transport + 'static> Driver<T> {
    pub(super) async fn step_sector(&self, view: &View, sector: &Sector) -> Result<(), DriveError> {
        match decide::ask(&sector.state) {
            Some(Ask::Ticket { draw }) => self.draw_ticket(view, sector, draw).await,
            Some(Ask::PreCommit(sealed)) => self.look_for_precommit(view, sector, sealed).await,
            Some(Ask::Watch(precommitted)) => self.stands(view, sector, precommitted).await.map(drop),
            Some(Ask::Files(stored)) => self.check_files(view, sector, stored).await,
            Some(Ask::Seed(stored)) => self.draw_seed(view, sector, stored).await,
            Some(Ask::Proof(proven)) => self.verify_proof(view, sector, proven).await,
            Some(Ask::Active(proven)) => self.look_for_sector(view, sector, proven).await,
            None => Ok(()),
        }
    }

    /// Drawn when it is asked for, and not earlier: a ticket ages from the moment it is drawn.
    async fn draw_ticket(&self, view: &View, sector: &Sector, draw: u32) -> Result<(), DriveError> {
        let now = self.now(view);
        let (domain, miner) = (Domain::SealRandomness, sector.id.miner.0);
        let randomness = self.node.randomness_from_tickets(domain, now.ticket_epoch(), miner, &view.head.key).await?;
        Ok(self.apply(sector.id, now.ticket(draw, randomness)).await?)
    }

    /// Files are read in the background: a store that hangs must not hold the other sectors up.
    async fn check_files(&self, view: &View, sector: &Sector, stored: &Stored) -> Result<(), DriveError> {
        if !self.stands(view, sector, &stored.precommitted).await? {
            return Ok(());
        }
        if let Ok(mut checking) = self.checking.lock()
            && !checking.insert(sector.id)
        {
            return Ok(());
        }
        let (id, proof) = (sector.id, sector.proof);
        let (comm_r, files) = (stored.precommitted.sealed.comm_r, stored.files.clone());
        let randomness = self
            .node
            .randomness_from_beacon(Domain::WindowedPoStChallengeSeed, view.head.height, id.miner.0, &view.head.key)
            .await;
        let randomness = match randomness {
            Ok(randomness) => randomness,
            Err(error) => {
                self.done_checking(id);
                return Err(error.into());
            }
        };
        let (config, checking, store) = (self.config.clone(), self.checking.clone(), self.store.clone());
        let (epoch, policy, changed) = (self.epoch, self.policy(), self.changed.clone());
        let verifier = self.verifier.clone();
        tokio::spawn(async move {
            let timeout = std::time::Duration::from_secs(config.policy.file_check_timeout_secs);
            let checked = match store.known_stores().await {
                Ok(known) => {
                    let stores = files::Stores { configured: &config.stores, known: &known };
                    files::check(id, proof, comm_r, files, stores, randomness, timeout, verifier).await
                }
                Err(error) => Err(ErrorReport::from_error(ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE, &error)),
            };
            let input = match checked {
                Ok(()) => Some(Input::FilesChecked),
                Err(error) if error.class == ErrorClass::Temp => {
                    tracing::warn!(sector = %id, error = error.message(), "the files could not be checked; trying again");
                    None
                }
                Err(error) => Some(Input::Refused(error)),
            };
            if let Some(input) = input
                && let Err(error) = apply_to(&store, epoch, id, input, policy).await
            {
                tracing::error!(sector = %id, %error, "the check's outcome is not stored; checking again");
            }
            if let Ok(mut checking) = checking.lock() {
                checking.remove(&id);
            }
            changed.notify_waiters();
        });
        Ok(())
    }

    fn done_checking(&self, id: sealbus_schema::SectorId) {
        if let Ok(mut checking) = self.checking.lock() {
            checking.remove(&id);
        }
    }

    /// The seed is drawn when its epoch is confident, for the PreCommit as it stands then.
    async fn draw_seed(&self, view: &View, sector: &Sector, stored: &Stored) -> Result<(), DriveError> {
        let now = self.now(view);
        let epoch = now.seed_epoch(stored);
        if view.lagged.height < epoch {
            return Ok(());
        }
        if !self.stands(view, sector, &stored.precommitted).await? {
            return Ok(());
        }
        let miner = sector.id.miner.0;
        let randomness = self
            .node
            .randomness_from_beacon(Domain::InteractiveSealChallengeSeed, epoch, miner, &view.head.key)
            .await?;
        Ok(self.apply(sector.id, now.seed(stored, randomness)).await?)
    }

    /// The proof is verified here, because the chain charges for a wrong one.
    async fn verify_proof(&self, view: &View, sector: &Sector, proven: &Proven) -> Result<(), DriveError> {
        let precommitted = &proven.seeded.stored.precommitted;
        if !self.stands(view, sector, precommitted).await? {
            return Ok(());
        }
        let (verifier, id, proof, proven) = (self.verifier.clone(), sector.id, sector.proof, proven.clone());
        let verified = proofs::blocking(move || verifier.verify_seal(id, proof, &proven)).await;
        let input = match verified.and_then(|verified| verified) {
            Ok(()) => Input::ProofVerified,
            Err(error) => Input::Refused(error),
        };
        Ok(self.apply(sector.id, input).await?)
    }

    /// Whether a PreCommit stands on chain where we know it. The sector hears of a difference.
    async fn stands(&self, view: &View, sector: &Sector, known: &PreCommitted) -> Result<bool, DriveError> {
        let now = self.now(view);
        let found = match now.has_run_out(known) {
            true => None,
            false => self.precommit_on_chain(view, sector, &known.sealed).await?,
        };
        match now.watch(known, found) {
            Watched::Same => return Ok(true),
            Watched::Changed(input) => self.apply(sector.id, input).await?,
            Watched::Missing => self.push_precommit_again(view, sector.id).await?,
        }
        Ok(false)
    }
}

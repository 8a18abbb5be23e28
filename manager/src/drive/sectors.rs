//! What a sector in each state waits for from the chain or the store.

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Randomness,
    message::{PreCommitInfo, Seed, Ticket},
    seal::manager::{Input, PreCommitted, Proven, Rebuild, State, Stored},
};
use serde_json::json;

use super::{DriveError, Driver, View, address, apply_to, error_detail};
use crate::{
    chain::{
        Transport,
        commitment::sealed_cid,
        randomness::{Domain, seed_epoch, ticket_epoch, ticket_expires_epoch},
    },
    files, proofs,
    store::Sector,
};

/// What the chain says about a sector's PreCommit, at a confident tipset.
enum OnChain {
    /// It stands where we know it.
    Same,
    /// It stands at another epoch.
    Moved(PreCommitInfo),
    /// It is not there (any more, or not yet again).
    Missing,
}

impl<T: Transport + 'static> Driver<T> {
    pub(super) async fn step_sector(&self, view: &View, sector: &Sector) -> Result<(), DriveError> {
        match &sector.state {
            State::DrawingTicket { draw } => self.draw_ticket(view, sector, *draw).await,
            State::PreCommitting(sealed) => self.look_for_precommit(view, sector, sealed).await,
            State::CheckingFiles(stored) => self.check_files(view, sector, stored).await,
            State::AwaitingSeed(stored) => self.draw_seed(view, sector, stored).await,
            State::Committing(seeded) => {
                self.watch_precommit(view, sector, &seeded.stored.precommitted).await.map(drop)
            }
            State::VerifyingProof(proven) => self.verify_proof(view, sector, proven).await,
            State::ProveCommitting(proven) => self.look_for_sector(view, sector, proven).await,
            State::Persisting(precommitted)
            | State::Requeued(Rebuild::Landed(precommitted))
            | State::Rebuilding(Rebuild::Landed(precommitted)) => {
                self.watch_precommit(view, sector, precommitted).await.map(drop)
            }
            State::Requeued(Rebuild::Sent(sealed)) | State::Rebuilding(Rebuild::Sent(sealed)) => {
                self.look_for_precommit(view, sector, sealed).await
            }
            State::Queued
            | State::Packing
            | State::Sealing { .. }
            | State::Cleaning(_)
            | State::Proving(_)
            | State::Aborting { .. }
            | State::Abandoning { .. }
            | State::Aborted { .. }
            | State::Blocked { .. } => Ok(()),
        }
    }

    /// Drawn when it is asked for, and not earlier: a ticket ages from the moment it is drawn.
    async fn draw_ticket(&self, view: &View, sector: &Sector, draw: u32) -> Result<(), DriveError> {
        let epoch = ticket_epoch(view.head.height);
        let miner = sector.id.miner.0;
        let randomness =
            self.node.randomness_from_tickets(Domain::SealRandomness, epoch, miner, &view.head.key).await?;
        let ticket = Ticket {
            draw,
            randomness: Randomness(randomness),
            epoch,
            expires_epoch: ticket_expires_epoch(epoch),
            head_epoch: view.head.height,
            epoch_millis: self.epoch_millis,
        };
        let detail = json!({ "draw": draw, "epoch": epoch, "expires_epoch": ticket.expires_epoch });
        Ok(self.apply(sector.id, Input::TicketDrawn(ticket), "ticket_drawn", detail).await?)
    }

    /// Files are read in the background: a store that hangs must not hold the other sectors up.
    async fn check_files(&self, view: &View, sector: &Sector, stored: &Stored) -> Result<(), DriveError> {
        if !matches!(self.watch_precommit(view, sector, &stored.precommitted).await?, OnChain::Same) {
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
            let checked = files::check(id, proof, comm_r, files, &config.stores, randomness, timeout, verifier).await;
            let (input, kind, detail) = match checked {
                Ok(()) => (Some(Input::FilesChecked), "files_checked", json!({})),
                Err(error) if error.class == ErrorClass::Temp => (None, "files_not_checked", error_detail(&error)),
                Err(error) => {
                    let detail = error_detail(&error);
                    (Some(Input::Refused(error)), "files_refused", detail)
                }
            };
            match input {
                Some(input) => {
                    if let Err(error) = apply_to(&store, epoch, id, input, kind, detail, policy).await {
                        tracing::error!(sector = %id, %error, "the check's outcome is not stored; checking again");
                    }
                }
                None => tracing::warn!(sector = %id, %detail, "the files could not be checked; trying again"),
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
        let precommit = stored.precommitted.precommit;
        let draw = stored.precommitted.seeds_drawn + 1;
        let epoch = seed_epoch(precommit.epoch, self.rules.prove_commit_earliest(0) - 1);
        if view.lagged.height < epoch {
            return Ok(());
        }
        if !matches!(self.watch_precommit(view, sector, &stored.precommitted).await?, OnChain::Same) {
            return Ok(());
        }
        let miner = sector.id.miner.0;
        let randomness = self
            .node
            .randomness_from_beacon(Domain::InteractiveSealChallengeSeed, epoch, miner, &view.head.key)
            .await?;
        let seed = Seed { draw, randomness: Randomness(randomness), epoch };
        let detail = json!({ "draw": draw, "epoch": epoch });
        Ok(self.apply(sector.id, Input::SeedDrawn(seed), "seed_drawn", detail).await?)
    }

    /// The proof is verified here, because the chain charges for a wrong one.
    async fn verify_proof(&self, view: &View, sector: &Sector, proven: &Proven) -> Result<(), DriveError> {
        let precommitted = &proven.seeded.stored.precommitted;
        if !matches!(self.watch_precommit(view, sector, precommitted).await?, OnChain::Same) {
            return Ok(());
        }
        let (verifier, id, proof, proven) = (self.verifier.clone(), sector.id, sector.proof, proven.clone());
        let verified = proofs::blocking(move || verifier.verify_seal(id, proof, &proven)).await;
        let (input, kind, detail) = match verified.and_then(|verified| verified) {
            Ok(()) => (Input::ProofVerified, "proof_verified", json!({})),
            Err(error) => {
                let detail = error_detail(&error);
                (Input::Refused(error), "proof_refused", detail)
            }
        };
        Ok(self.apply(sector.id, input, kind, detail).await?)
    }

    /// Compares what we know of a PreCommit with the chain, and lets the sector know of a difference.
    async fn watch_precommit(&self, view: &View, sector: &Sector, known: &PreCommitted) -> Result<OnChain, DriveError> {
        if view.head.height > known.precommit.prove_by_epoch {
            let message = format!(
                "the PreCommit of epoch {} had to be proven by epoch {}; the chain is at {}",
                known.precommit.epoch, known.precommit.prove_by_epoch, view.head.height
            );
            let error = ErrorReport::new(ErrorClass::Perm, ErrorCode::PRECOMMIT_EXPIRED, message);
            let detail = error_detail(&error);
            self.apply(sector.id, Input::Expired(error), "precommit_expired", detail).await?;
            return Ok(OnChain::Missing);
        }
        let on_chain = self.precommit_on_chain(view, sector, known).await?;
        if let OnChain::Moved(precommit) = &on_chain {
            let detail = json!({ "from_epoch": known.precommit.epoch, "to_epoch": precommit.epoch });
            self.apply(sector.id, Input::PreCommitMoved(*precommit), "precommit_moved", detail).await?;
        }
        Ok(on_chain)
    }

    async fn precommit_on_chain(
        &self,
        view: &View,
        sector: &Sector,
        known: &PreCommitted,
    ) -> Result<OnChain, DriveError> {
        let miner = address(sector.id.miner);
        let found = self.node.sector_pre_commit_info(&miner, sector.id.number.0, &view.lagged.key).await?;
        let ours = sealed_cid(&known.sealed.comm_r.0)?;
        Ok(match found {
            Some(found) if found.info.sealed_cid == ours && found.pre_commit_epoch == known.precommit.epoch => {
                OnChain::Same
            }
            Some(found) if found.info.sealed_cid == ours => {
                OnChain::Moved(self.precommit_info(view, found.pre_commit_epoch))
            }
            _ => OnChain::Missing,
        })
    }

    pub(super) fn precommit_info(&self, view: &View, epoch: i64) -> PreCommitInfo {
        PreCommitInfo {
            epoch,
            prove_by_epoch: self.rules.prove_commit_deadline(epoch),
            head_epoch: view.head.height,
            epoch_millis: self.epoch_millis,
        }
    }
}

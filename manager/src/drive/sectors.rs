//! What a sector in each state waits for from the chain or the store.

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, SectorId,
    workflows::{
        Input,
        seal::manager::{Answer, PreCommitted, Proven, State, Stored},
    },
};

use super::{
    DriveError, Driver, Step, View, address, apply_to,
    decide::{self, Ask, Watched},
    error_detail, lock,
};
use crate::{
    chain::{Transport, randomness::Domain},
    files, life, proofs,
    store::{Happening, Job},
    store_access,
    waits::{Cause, Subject},
};

impl<T: Transport + 'static> Driver<T> {
    pub(super) async fn step_sector(&self, view: &View, sector: &Job) -> Result<Step, DriveError> {
        match decide::ask(sector) {
            Some(Ask::Ticket { draw }) => return self.draw_ticket(view, sector, draw).await,
            Some(Ask::Files(stored)) => return self.check_files(view, sector, stored).await,
            Some(Ask::Proof(proven)) => return self.verify_proof(view, sector, proven).await,
            Some(Ask::PreCommit(sealed)) => self.look_for_precommit(view, sector, sealed).await?,
            Some(Ask::Watch(precommitted)) => self.stands(view, sector, precommitted).await.map(drop)?,
            Some(Ask::Seed(stored)) => self.draw_seed(view, sector, stored).await?,
            Some(Ask::Active(proven)) => self.look_for_sector(view, sector, proven).await?,
            None => {}
        }
        Ok(Step::GoesOn)
    }

    /// Drawn when it is asked for, and not earlier: a ticket ages from the moment it is drawn. What would make hours of
    /// sealing worthless is asked before.
    async fn draw_ticket(&self, view: &View, sector: &Job, draw: u32) -> Result<Step, DriveError> {
        let (id, miner) = (sector.id, address(sector.id.miner));
        // Of this attempt no PreCommit was ever signed, so whoever used the number uses it for another replica.
        if self.node.sector_allocated(&miner, id.number.0, &view.head.key).await? {
            self.give_up_number(id).await?;
            return Ok(Step::GoesOn);
        }
        if let Some(cause) = store_access::conflict(&self.config.stores, id).await {
            self.waits.waits(&Subject::Sector(id), cause, self.config.chain.poll_interval());
            return Ok(Step::Undecided);
        }
        if self.surroundings.is_held(id.miner) {
            // The miner waits, and says why.
            return Ok(Step::GoesOn);
        }
        let now = self.now(view);
        let (domain, miner) = (Domain::SealRandomness, id.miner.0);
        let randomness = self.node.randomness_from_tickets(domain, now.ticket_epoch(), miner, &view.head.key).await?;
        self.apply(id, now.ticket(draw, randomness)).await?;
        Ok(Step::GoesOn)
    }

    /// The number belongs to somebody else: nothing is lost yet, the worker drops what it has, and a sector that was
    /// pledged gets another number.
    async fn give_up_number(&self, id: SectorId) -> Result<(), DriveError> {
        let text = format!(
            "number {} of miner {} is used on chain already, by another tool or an earlier life",
            id.number.0, id.miner
        );
        let cause = ErrorReport::new(ErrorClass::Abort, ErrorCode::NUMBER_TAKEN, text);
        let pledged = self.store.history(id).await?.iter().any(|entry| {
            let happening = &entry.happening;
            happening.kind == "wanted" && happening.detail["why"] == "pledged"
        });
        let mut tx = self.store.begin_as(self.epoch).await?;
        let Some(sector) = tx.sector(id).await? else { return Ok(()) };
        if !matches!(decide::ask(&sector), Some(Ask::Ticket { .. })) {
            return Ok(());
        }
        tracing::warn!(sector = %id, pledged, "its number is taken on chain; it is given up");
        let happening = Happening::of_manager("number_taken", error_detail(&cause));
        life::apply(&mut tx, sector, Input::Abandoned { cause, lose_deposit: false }, happening, self.policy()).await?;
        if pledged {
            tx.add_pledge(&id.miner.to_string(), 1, "sealbus-manager").await?;
        }
        tx.commit().await?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Whether somebody else took the number while the sector was sealed. Then no PreCommit is signed that could only fail.
    pub(super) async fn is_number_taken(&self, view: &View, id: SectorId) -> Result<bool, DriveError> {
        let Some(sector) = self.store.sector(id).await? else { return Ok(false) };
        let Some(State::PreCommitting(sealed)) = sector.state.seal().filter(|_| sector.blocked.is_none()) else {
            return Ok(false);
        };
        let (miner, key) = (address(id.miner), &view.lagged.key);
        if sector.signed
            || !self.node.sector_allocated(&miner, id.number.0, key).await?
            || self.precommit_on_chain(view, &sector, sealed).await?.is_some_and(|found| found.is_ours)
        {
            return Ok(false);
        }
        let text = format!("number {} of miner {} was used on chain by another tool meanwhile", id.number.0, id.miner);
        let cause = ErrorReport::new(ErrorClass::Perm, ErrorCode::NUMBER_TAKEN, text);
        self.apply(id, Input::Refused(cause)).await?;
        Ok(true)
    }

    /// Files are read in the background: a store that hangs must not hold the other sectors up.
    async fn check_files(&self, view: &View, sector: &Job, stored: &Stored) -> Result<Step, DriveError> {
        if !self.stands(view, sector, &stored.precommitted).await? {
            return Ok(Step::GoesOn);
        }
        if !lock(&self.checking).insert(sector.id) {
            return Ok(Step::Undecided);
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
        let (verifier, waits) = (self.verifier.clone(), self.waits.clone());
        tokio::spawn(async move {
            let timeout = std::time::Duration::from_secs(config.policy.file_check_timeout_secs);
            let of_sector = files.clone();
            let checked = match store.known_stores().await {
                Ok(known) => {
                    let stores = files::Stores { configured: &config.stores, known: &known };
                    files::check(id, proof, comm_r, files, stores, randomness, timeout, verifier).await
                }
                Err(error) => Err(ErrorReport::from_error(ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE, &error)),
            };
            let subject = Subject::Sector(id);
            let input = match checked {
                Ok(()) => Some(Input::from(Answer::FilesChecked)),
                Err(error) => {
                    let denied = match config.stores.iter().find(|store| store.name == of_sector.store) {
                        Some(store) => store_access::denied(store, &of_sector).await,
                        None => None,
                    };
                    // What a person or time mends outside is waited for; what the files are is not.
                    let cause = denied.or_else(|| (error.class == ErrorClass::Temp).then(|| Cause::from(&error)));
                    match cause {
                        Some(cause) => {
                            waits.waits(&subject, cause, config.chain.poll_interval());
                            None
                        }
                        None => Some(Input::Refused(error)),
                    }
                }
            };
            if input.is_some() {
                waits.goes_on(&subject);
            }
            if let Some(input) = input
                && let Err(error) = apply_to(&store, epoch, id, input, policy).await
            {
                tracing::error!(sector = %id, %error, "the check's outcome is not stored; checking again");
            }
            lock(&checking).remove(&id);
            changed.notify_waiters();
        });
        Ok(Step::Undecided)
    }

    fn done_checking(&self, id: SectorId) {
        lock(&self.checking).remove(&id);
    }

    /// The seed is drawn when its epoch is confident, for the PreCommit as it stands then.
    async fn draw_seed(&self, view: &View, sector: &Job, stored: &Stored) -> Result<(), DriveError> {
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
    async fn verify_proof(&self, view: &View, sector: &Job, proven: &Proven) -> Result<Step, DriveError> {
        let precommitted = &proven.seeded.stored.precommitted;
        if !self.stands(view, sector, precommitted).await? {
            return Ok(Step::GoesOn);
        }
        if let Err(missing) = self.verifier.ready(sector.proof) {
            // The machine's condition, not the sector's.
            self.waits.waits(&Subject::Sector(sector.id), Cause::from(&missing), self.config.chain.poll_interval());
            return Ok(Step::Undecided);
        }
        let (verifier, id, proof, proven) = (self.verifier.clone(), sector.id, sector.proof, proven.clone());
        let verified = proofs::blocking(move || verifier.verify_seal(id, proof, &proven)).await;
        let input = match verified.and_then(|verified| verified) {
            Ok(()) => Input::from(Answer::ProofVerified),
            Err(error) => Input::Refused(error),
        };
        self.apply(sector.id, input).await?;
        Ok(Step::GoesOn)
    }

    /// Whether a PreCommit stands on chain where we know it. The sector hears of a difference.
    async fn stands(&self, view: &View, sector: &Job, known: &PreCommitted) -> Result<bool, DriveError> {
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

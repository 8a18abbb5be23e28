//! What a sector in each state waits for from the chain or the store.

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Randomness, SectorId,
    workflows::{
        Input,
        seal::manager::{Answer, PreCommitted, Proven, State, Stored},
    },
};

use super::{
    DriveError, Driver, Step, View, address,
    checks::Check,
    decide::{self, Ask, Watched},
    error_detail,
};
use crate::{
    chain::{Transport, randomness::Domain},
    files::{Request, Running},
    life, proofs,
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
            Some(Ask::Watch(precommitted)) if self.stands(view, sector, precommitted).await? => {
                return Ok(Step::Settled);
            }
            Some(Ask::Watch(_)) => {}
            Some(Ask::Seed(stored)) => return self.draw_seed(view, sector, stored).await,
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
        self.changed.ring();
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

    /// Files are read in the background and by another process: a store that hangs must not hold the other sectors up.
    async fn check_files(&self, view: &View, sector: &Job, stored: &Stored) -> Result<Step, DriveError> {
        let Some(turn) = self.checks.begin(sector.id, &stored.files.store, self.config.policy.file_checks) else {
            return Ok(Step::Undecided);
        };
        if !self.stands(view, sector, &stored.precommitted).await? {
            return Ok(Step::GoesOn);
        }
        let (domain, miner) = (Domain::WindowedPoStChallengeSeed, sector.id.miner.0);
        let randomness =
            self.node.randomness_from_beacon(domain, view.head.height, miner, &view.head.key).await.map(Randomness)?;
        let known = self.store.known_stores().await?;
        let of_sector = (sector.id, sector.proof, stored.precommitted.sealed.comm_r);
        let request = Request::new(of_sector, stored.files.clone(), (&self.config.stores, &known), randomness);
        let running = request.and_then(|request| Running::start(&self.verifier.file_checker(), request));
        let check = Check {
            turn,
            store: self.store.clone(),
            config: self.config.clone(),
            waits: self.waits.clone(),
            epoch: self.epoch,
            changed: self.changed.clone(),
        };
        tokio::spawn(check.follow(sector.id, stored.files.clone(), running));
        Ok(Step::Undecided)
    }

    /// The seed is drawn when its epoch is confident, for the PreCommit as it stands then.
    async fn draw_seed(&self, view: &View, sector: &Job, stored: &Stored) -> Result<Step, DriveError> {
        let now = self.now(view);
        let epoch = now.seed_epoch(stored);
        if view.lagged.height < epoch {
            return Ok(Step::Settled);
        }
        if !self.stands(view, sector, &stored.precommitted).await? {
            return Ok(Step::GoesOn);
        }
        let miner = sector.id.miner.0;
        let randomness = self
            .node
            .randomness_from_beacon(Domain::InteractiveSealChallengeSeed, epoch, miner, &view.head.key)
            .await?;
        self.apply(sector.id, now.seed(stored, randomness)).await?;
        Ok(Step::GoesOn)
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

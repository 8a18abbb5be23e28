//! Answers the questions of workflows: from the node, the permanent stores and the proofs library.
//!
//! The node is asked only once about the same thing at the same tipset, because the client caches its answers
//! ([`crate::chain::memo`]).

use sealbus_schema::{Commitment, Randomness, parts::StoredSector};

use super::{DriveError, Driver, View, address, checks::Check};
use crate::{
    chain::{Transport, commitment::sealed_cid, randomness::Domain, types::TipSetKey},
    files::{Request, Running},
    proofs,
    store::Job,
    store_access,
    waits::{Cause, Subject},
    workflows::{Answer, At, Found, Known, Now, Question},
};

impl<T: Transport + 'static> Driver<T> {
    /// Calls a workflow until it knows enough, and returns what it says. `None` if an answer is not available now: then
    /// the cause is reported, or the answer is applied later.
    pub(super) async fn consult<R>(
        &self,
        view: &View,
        job: &Job,
        decide: impl Fn(&Now, &Known) -> Result<R, Question>,
    ) -> Result<Option<R>, DriveError> {
        let (now, mut known) = (self.now(view), Known::default());
        loop {
            let question = match decide(&now, &known) {
                Ok(said) => return Ok(Some(said)),
                Err(question) => question,
            };
            match self.answer(view, job, &question, (now, &known)).await? {
                Some(answer) => known.learn(question, answer),
                None => return Ok(None),
            }
        }
    }

    async fn answer(
        &self,
        view: &View,
        job: &Job,
        question: &Question,
        so_far: (Now, &Known),
    ) -> Result<Option<Answer>, DriveError> {
        let (head, miner, number) = (&view.head.key, address(job.id.miner), job.id.number.0);
        Ok(Some(match question {
            Question::NumberAllocated { at } => {
                Answer::Yes(self.node.sector_allocated(&miner, number, view.key(*at)).await?)
            }
            Question::MayBegin => return Ok(self.may_begin(job).await.then_some(Answer::Yes(true))),
            Question::TicketRandomness { domain, epoch } => {
                let miner = job.id.miner.0;
                Answer::Randomness(self.node.randomness_from_tickets(*domain, *epoch, miner, head).await?)
            }
            Question::BeaconRandomness { domain, epoch } => {
                let miner = job.id.miner.0;
                Answer::Randomness(self.node.randomness_from_beacon(*domain, *epoch, miner, head).await?)
            }
            Question::PreCommit { at, comm_r } => {
                let ours = sealed_cid(&comm_r.0)?;
                let found = self.node.sector_pre_commit_info(&miner, number, view.key(*at)).await?;
                Answer::Found(
                    found.map(|found| Found { is_ours: found.info.sealed_cid == ours, epoch: found.pre_commit_epoch }),
                )
            }
            Question::ActiveSector { comm_r } => {
                let ours = sealed_cid(&comm_r.0)?;
                let found = self.node.sector_info(&miner, number, view.key(At::Confident)).await?;
                Answer::Found(found.map(|found| Found { is_ours: found.sealed_cid == ours, epoch: found.activation }))
            }
            Question::MayRead { store } => {
                let may = self.checks.may_begin(job.id, store, self.config.policy.file_checks);
                return Ok(may.then_some(Answer::Yes(true)));
            }
            Question::FilesProve { comm_r, files } => {
                self.check_files(view, job, (*comm_r, files), so_far).await?;
                return Ok(None);
            }
            Question::Verifies(porep) => {
                if let Err(missing) = self.verifier.ready(job.proof) {
                    // A fault of this machine, not of the sector.
                    self.tell(job, Cause::from(&missing));
                    return Ok(None);
                }
                let (verifier, id, proof, porep) = (self.verifier.clone(), job.id, job.proof, porep.clone());
                let verified = proofs::blocking(move || verifier.verify_seal(id, proof, &porep)).await;
                Answer::Verdict(verified.and_then(|verified| verified))
            }
        }))
    }

    async fn may_begin(&self, job: &Job) -> bool {
        if let Some(cause) = store_access::conflict(&self.config.stores, job.id).await {
            self.tell(job, cause);
            return false;
        }
        let is_held = self.surroundings.is_held(job.id.miner);
        if is_held {
            // The miner has a wait of its own, which says why.
            self.waits.goes_on(&Subject::Sector(job.id));
        }
        !is_held
    }

    /// Starts a check of files. They are read in the background by another process, so that a hanging store does not
    /// delay other sectors.
    async fn check_files(
        &self,
        view: &View,
        job: &Job,
        (comm_r, files): (Commitment, &StoredSector),
        (now, known): (Now, &Known),
    ) -> Result<(), DriveError> {
        let Some(turn) = self.checks.begin(job.id, &files.store, self.config.policy.file_checks) else {
            return Ok(());
        };
        // Fresh randomness for each check, so that each one reads other parts of the files.
        let (domain, miner) = (Domain::WindowedPoStChallengeSeed, job.id.miner.0);
        let head = &view.head;
        let randomness = self.node.randomness_from_beacon(domain, head.height, miner, &head.key).await?;
        let stores = self.store.known_stores().await?;
        let of_sector = (job.id, job.proof, comm_r);
        let request = Request::new(of_sector, files.clone(), (&self.config.stores, &stores), Randomness(randomness));
        let running = request.and_then(|request| Running::start(&self.verifier.file_checker(), request));
        let check = Check {
            turn,
            store: self.store.clone(),
            config: self.config.clone(),
            waits: self.waits.clone(),
            epoch: self.epoch,
            changed: self.changed.clone(),
            job: job.clone(),
            now,
            known: known.clone(),
        };
        tokio::spawn(check.follow(comm_r, files.clone(), running));
        Ok(())
    }

    fn tell(&self, job: &Job, cause: Cause) {
        self.waits.waits(&Subject::Sector(job.id), cause, self.config.chain.poll_interval());
    }
}

impl View {
    const fn key(&self, at: At) -> &TipSetKey {
        match at {
            At::Head => &self.head.key,
            At::Confident => &self.lagged.key,
        }
    }
}

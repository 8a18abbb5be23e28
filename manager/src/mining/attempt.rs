//! One miner's try to make a block for one epoch.
//!
//! The order of the steps keeps a miner from making two blocks for an epoch. The won epoch is stored; the proof is made;
//! the block is claimed in the database, which the database grants once; only then the node is asked for the block, which
//! it signs; the signed block is stored; it is submitted. A manager that finds a claim without a block makes none. One
//! that finds a block submits that one.

use fvm_shared::address::Address;
use sealbus_schema::{
    Commitment, MinerId, Randomness, SectorNumber,
    post::{PostJob, PostKind, PostSubject},
};
use tokio::time::{Instant, timeout_at};

use super::{
    Mining,
    block::{BlockId, BlockState, Claim, WonBlock},
    heard,
    pace::Round,
    prove::{Challenge, millis},
};
use crate::{
    chain::{
        Transport, commitment, election,
        node::mining::{Base, BaseInfo, Block, ChallengedSector, Template},
        types::Epoch,
    },
    drive::{address, chain_of},
    proving::{Error, tasks::Tasks},
};

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The miner cannot win: it has no sector that can be proven, or too little power, or is punished.
    NotEligible,
    /// It has not won.
    NotWon,
    /// The epoch was done with before.
    Known(BlockState),
    /// The block was submitted.
    Submitted,
    /// It has won, and there is no block.
    Lost(String),
}

/// What a block says of its epoch, on one base.
struct Election {
    info: BaseInfo,
    /// The beacon entry that everything is drawn from.
    beacon: Vec<u8>,
    wins: i64,
    vrf_proof: Vec<u8>,
}

/// What has become of a base while the proof was made.
enum Fresh {
    /// It is used.
    Same,
    /// Some of its blocks are not good any more.
    Part(Base),
    /// Another one is better.
    Moved(Base),
    /// The epoch has passed, on another base.
    Passed,
}

impl<T: Transport, B: Tasks> Mining<'_, T, B> {
    /// Tries to make a block. An error means that nothing was claimed, and that the same may be tried again.
    pub(super) async fn attempt(&self, miner: MinerId, base: &Base, round: &Round) -> Result<Outcome, Error> {
        let id = BlockId { miner, epoch: round.epoch };
        let known = self.store.won_block(id).await?;
        match &known {
            Some(block) if block.state != BlockState::Making => return self.take_up(block.clone(), round).await,
            _ => {}
        }
        let (began, began_at) = (Instant::now(), self.now_ms());
        let told = self.node.miner_base_info(&address(miner), round.epoch, &base.key).await?;
        let base_info_ms = millis(began);
        let voting = Instant::now();
        let Some(election) = self.elect(miner, round.epoch, told).await? else { return Ok(Outcome::NotEligible) };
        if election.wins == 0 {
            return Ok(Outcome::NotWon);
        }
        let sector = election.info.sectors.first().map(|sector| SectorNumber(sector.sector_number));
        let mut block = known.unwrap_or_else(|| WonBlock::won(id, election.wins, base.height, sector));
        block.steps.base_info_ms = Some(base_info_ms);
        block.steps.election_ms = Some(millis(voting));
        block.budget_ms = round.is_timed.then_some(round.due - began_at);
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.begin_block(&block).await?;
        tx.commit().await?;
        tracing::info!(%miner, epoch = round.epoch, wins = election.wins, base = base.height, "won an epoch");
        match self.make(&mut block, base.clone(), election, round, began).await? {
            Ok(()) => self.submit(block, round, false).await,
            Err(cause) => self.lose(block, cause).await,
        }
    }

    /// Goes on with an epoch that an earlier manager has left.
    async fn take_up(&self, block: WonBlock, round: &Round) -> Result<Outcome, Error> {
        match block.state {
            BlockState::Claimed => {
                let cause = "the manager was stopped while the node made the block; no other one is made for the epoch";
                self.lose(block, cause.to_owned()).await
            }
            BlockState::Created => self.submit(block, round, true).await,
            state => Ok(Outcome::Known(state)),
        }
    }

    /// Makes the proof, claims the block and lets the node make it. The inner error says why there is none.
    async fn make(
        &self,
        block: &mut WonBlock,
        mut base: Base,
        mut election: Election,
        round: &Round,
        began: Instant,
    ) -> Result<Result<(), String>, Error> {
        let miner = block.id.miner;
        if let Some(cause) = self.lacks_our_own(miner, &base).await? {
            return Ok(Err(cause));
        }
        let challenge = self.challenge(miner, round.epoch, &election)?;
        let closes = Instant::now() + self.until(round.closes);
        // Some time is left for messages, signature and submission.
        let prove_until = Instant::now() + self.until(round.closes - self.pace.equivocation);
        let proof = match self.prove(&challenge, prove_until, &mut block.steps).await? {
            Ok(proof) => proof,
            Err(cause) => return Ok(Err(cause)),
        };
        let selecting = Instant::now();
        tokio::time::sleep_until(began + self.equivocation()).await;
        match self.look_again(&base, round.epoch).await? {
            Fresh::Same => {}
            Fresh::Part(part) => {
                tracing::warn!(%miner, epoch = round.epoch, "blocks have left the base; it is used without them");
                base = part;
            }
            Fresh::Moved(other) => {
                let told = self.node.miner_base_info(&address(miner), round.epoch, &other.key).await?;
                let elected = self.elect(miner, round.epoch, told).await?.filter(|elected| elected.wins > 0);
                let Some(elected) = elected else {
                    return Ok(Err("the base was reorganised, and on the new one the epoch is not won".to_owned()));
                };
                if self.challenge(miner, round.epoch, &elected)? != challenge {
                    return Ok(Err("the base was reorganised, and the new one asks for another proof".to_owned()));
                }
                tracing::warn!(%miner, epoch = round.epoch, "the base was reorganised; the block is made on the new one");
                (base, election) = (other, elected);
                if let Some(cause) = self.lacks_our_own(miner, &base).await? {
                    return Ok(Err(cause));
                }
            }
            Fresh::Passed => {
                return Ok(Err("the chain went on without the base while the proof was made".to_owned()));
            }
        }
        let input = election::ticket_input(&election.beacon, round.epoch, miner.0, base.min_ticket());
        let ticket = self.vrf(&election.info.worker_key, &input).await?;
        let messages = self.node.select_messages(&base.key, election::ticket_quality(&ticket)).await?;
        block.steps.messages_ms = Some(millis(selecting));
        if Instant::now() >= closes {
            return Ok(Err("the proof was made too late".to_owned()));
        }
        let mut tx = self.store.begin_as(self.epoch).await?;
        let claim = tx.claim_block(block.id, &base.key, base.height).await?;
        tx.commit().await?;
        match claim {
            Claim::Granted => {}
            Claim::Taken => return Ok(Err("a block was claimed for the epoch before".to_owned())),
            Claim::SameParents(epoch) => {
                let cause = format!("a block with the same parents was claimed for epoch {epoch}, and two are a fault");
                return Ok(Err(cause));
            }
        }
        (block.state, block.parents) = (BlockState::Claimed, Some(base.key.clone()));
        let creating = Instant::now();
        let template = Template {
            miner: address(miner),
            parents: &base.key,
            ticket: &ticket,
            election: (election.wins, &election.vrf_proof),
            beacon_entries: &election.info.beacon_entries,
            messages,
            epoch: round.epoch,
            timestamp: base.timestamp() + (round.epoch - base.height) as u64 * self.epoch_millis / 1000,
            // The numbers of the types of winning PoSts are those of the seal proofs, less 5.
            winning_post: (challenge.of.proof.number() - 5, &proof.0),
        };
        // From here on a failure loses the block: it must not be made a second time.
        let made = match timeout_at(closes, self.node.create_block(template)).await {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => return Ok(Err(format!("the node made no block: {}", chain_of(&error)))),
            Err(_) => return Ok(Err("the node made no block in time".to_owned())),
        };
        block.steps.create_ms = Some(millis(creating));
        block.margin_ms = round.is_timed.then(|| round.due - self.now_ms());
        (block.state, block.block) = (BlockState::Created, Some(made.0.to_string()));
        self.save_block(block).await?;
        Ok(Ok(()))
    }

    /// Submits a block at its time, as often as needed: it is the same block each time. `may_be_out` says whether an
    /// earlier manager may have submitted it. Then it is not lost because the node refuses it now.
    async fn submit(&self, mut block: WonBlock, round: &Round, mut may_be_out: bool) -> Result<Outcome, Error> {
        if round.is_timed {
            tokio::time::sleep(self.until(round.due)).await;
        }
        let text = block.block.clone().unwrap_or_default();
        let made = serde_json::from_str(&text).map_err(|error| Error::Odd(format!("the stored block: {error}")))?;
        self.store.check_epoch(self.epoch).await?;
        let (made, submitting) = (Block(made), Instant::now());
        let closes = submitting + self.until(round.closes);
        let failure = loop {
            let failure = match timeout_at(closes, self.node.submit_block(&made)).await {
                Ok(Ok(())) => break None,
                Ok(Err(error)) => error,
                Err(_) => {
                    may_be_out = true;
                    break Some("the node did not take it in time".to_owned());
                }
            };
            may_be_out |= failure.outcome_unknown();
            let pause = self.config.chain.head_interval(self.epoch_millis);
            if !(failure.is_transient() || failure.outcome_unknown()) || Instant::now() + pause >= closes {
                break Some(chain_of(&failure));
            }
            tokio::time::sleep(pause).await;
        };
        block.steps.submit_ms = Some(millis(submitting));
        match failure {
            Some(failure) if !may_be_out => {
                return self.lose(block, format!("the node refused the block: {failure}")).await;
            }
            failure => block.problem = failure.map(|failure| format!("it may not have been submitted: {failure}")),
        }
        block.state = BlockState::Submitted;
        self.save_block(&block).await?;
        let (miner, epoch) = (block.id.miner, block.id.epoch);
        tracing::info!(%miner, epoch, wins = block.wins, margin_ms = block.margin_ms, "submitted a block");
        Ok(Outcome::Submitted)
    }

    /// Notes that a won epoch has no block.
    pub(super) async fn lose(&self, mut block: WonBlock, cause: String) -> Result<Outcome, Error> {
        let (miner, epoch) = (block.id.miner, block.id.epoch);
        tracing::error!(%miner, epoch, wins = block.wins, cause, "a won block is lost");
        (block.state, block.block, block.problem) = (BlockState::Lost, None, Some(cause.clone()));
        self.save_block(&block).await?;
        Ok(Outcome::Lost(cause))
    }

    pub(super) async fn save_block(&self, block: &WonBlock) -> Result<(), Error> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.save_block(block).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Takes part in an epoch's election. `None` if the miner cannot win.
    async fn elect(&self, miner: MinerId, epoch: Epoch, told: Option<BaseInfo>) -> Result<Option<Election>, Error> {
        let Some(info) = told.filter(|info| info.eligible_for_mining && !info.sectors.is_empty()) else {
            return Ok(None);
        };
        let beacon = info.beacon()?;
        let vrf_proof = self.vrf(&info.worker_key, &election::election_input(&beacon, epoch, miner.0)).await?;
        let wins = election::wins(&vrf_proof, &info.miner_power, &info.network_power);
        Ok(Some(Election { info, beacon, wins, vrf_proof }))
    }

    /// A VRF proof by the worker's key: from a key file, or from the node's wallet.
    async fn vrf(&self, key: &Address, input: &[u8; 32]) -> Result<Vec<u8>, Error> {
        match self.config.chain.local_keys().vrf(key, input).await {
            Some(proof) => Ok(proof),
            None => Ok(self.node.wallet_vrf(key, input).await?),
        }
    }

    /// What the winning PoSt of an epoch proves.
    fn challenge(&self, miner: MinerId, epoch: Epoch, election: &Election) -> Result<Challenge, Error> {
        let [sector] = election.info.sectors.as_slice() else {
            let number = election.info.sectors.len();
            return Err(Error::Odd(format!("the node asks for a winning PoSt of {number} sectors, not of one")));
        };
        let randomness = election::challenge(&election.beacon, epoch, miner.0);
        self.challenge_of(miner, &format!("{}{epoch}", heard::BLOCK), randomness, sector)
    }

    /// The challenge of a sector, under the name of a job.
    pub(super) fn challenge_of(
        &self,
        miner: MinerId,
        job: &str,
        randomness: [u8; 32],
        sector: &ChallengedSector,
    ) -> Result<Challenge, Error> {
        let job = job.parse::<PostJob>().map_err(|error| Error::Odd(error.to_string()))?;
        let proof = self.config.miner(miner).map(|miner| miner.sector_size.seal_proof());
        let proof = proof.ok_or_else(|| Error::Odd(format!("{miner} is not configured any more")))?;
        Ok(Challenge {
            of: PostSubject { miner, job, post: PostKind::Winning, proof, randomness: Randomness(randomness) },
            sector: SectorNumber(sector.sector_number),
            comm_r: Commitment(commitment::comm_r(&sector.sealed_cid)?),
        })
    }

    /// Why no block must be made on a base, if it lacks the miner's own block of its epoch: a block that leaves out its
    /// miner's last one is a fault.
    async fn lacks_our_own(&self, miner: MinerId, base: &Base) -> Result<Option<String>, Error> {
        let own = self.store.won_block(BlockId { miner, epoch: base.height }).await?;
        let is_out = own.is_some_and(|own| own.state.may_be_out());
        let lacks = is_out && !base.has_block_of(&address(miner));
        Ok(lacks.then(|| format!("the base lacks our own block of epoch {}", base.height)))
    }

    /// Whether a base is still the one to use, as Lotus decides it.
    async fn look_again(&self, base: &Base, epoch: Epoch) -> Result<Fresh, Error> {
        let head = self.node.base().await?;
        if head.key == base.key {
            return Ok(Fresh::Same);
        }
        if head.height >= epoch {
            // Others were faster. On the same base our block stands beside theirs.
            let is_beside = head.height == epoch && head.blocks.iter().any(|block| block.parents == base.key);
            return Ok(if is_beside { Fresh::Same } else { Fresh::Passed });
        }
        // New blocks of the base's epoch are not taken: they came too late. Those that have left it were one of two that
        // their miner has sent.
        match base.common_with(&head).filter(|_| head.height == base.height) {
            Some(common) if common.key == base.key => Ok(Fresh::Same),
            Some(common) => Ok(Fresh::Part(common)),
            None => Ok(Fresh::Moved(head)),
        }
    }
}

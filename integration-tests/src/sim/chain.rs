//! The simulated chain: heights, a mempool, PreCommits and ProveCommits with the rules that matter here, and
//! reorganisations.

use std::collections::BTreeMap;

use sealbus_manager::{
    chain::{exit::ExitCode, expiry::Rules, randomness::ticket_expires_epoch},
    workflows::{Call, Found},
};
use sealbus_schema::SectorId;
use serde::{Deserialize, Serialize};

use super::rng::{self, Rng};

/// The first height. The epochs before it are enough for tickets.
const GENESIS: i64 = 1_000;
/// Epochs from a PreCommit to its seed.
pub const CHALLENGE_DELAY: i64 = 10;
/// How many epochs the confident tipset is behind the head.
pub const CONFIDENCE: i64 = 5;

/// A signed message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SimMessage {
    /// The sender's nonce.
    pub nonce: u64,
    /// The sector.
    pub sector: SectorId,
    /// Its effect.
    pub does: Does,
}

/// The effect of a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Does {
    /// Commits to a replica.
    PreCommit { comm_r: [u8; 32], ticket_epoch: i64 },
    /// Proves the replica.
    ProveCommit { proof: Vec<u8> },
    /// Only uses up its nonce: a filler.
    Nothing,
    /// A message of another tool with the same key.
    Foreign,
}

impl From<Call> for Does {
    fn from(call: Call) -> Does {
        match call {
            Call::PreCommit { comm_r, ticket_epoch } => Does::PreCommit { comm_r: comm_r.0, ticket_epoch },
            Call::ProveCommit { porep } => Does::ProveCommit { proof: porep.proof.0 },
        }
    }
}

/// The probabilities of faults of messages, in millionths.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Another tool takes the nonce of a waiting message, per epoch.
    pub steal: u64,
    /// A message runs out of gas.
    pub gas: u64,
    /// The pool refuses a message.
    pub refuse: u64,
    rng: Rng,
}

/// A message in a tipset.
#[derive(Clone, Debug)]
struct Executed {
    height: i64,
    message: SimMessage,
    exit: ExitCode,
}

/// The chain and its node.
#[derive(Debug)]
pub struct Chain {
    /// The length of an epoch in milliseconds.
    pub epoch_millis: u64,
    /// The network's rules.
    pub rules: Rules,
    executed: Vec<Executed>,
    mempool: BTreeMap<u64, SimMessage>,
    height: i64,
    /// How many reorganisations there have been.
    pub forks: u64,
    /// The faults, until all faults stop.
    pub trouble: Option<Trouble>,
}

/// The valid proof of a replica for a seed.
pub fn proof(sector: SectorId, comm_r: &[u8; 32], seed: &[u8; 32]) -> Vec<u8> {
    let mut parts = vec![sector.number.0];
    parts.extend(rng::words(comm_r));
    parts.extend(rng::words(seed));
    rng::bytes(&parts).to_vec()
}

/// The beacon's randomness. Reorganisations do not change it.
pub fn beacon(epoch: i64) -> [u8; 32] {
    rng::bytes(&[7, epoch as u64])
}

impl Trouble {
    /// The faults of messages in a seed's world. One world in four has some. They have a random stream of their own, so
    /// that the other worlds stay the same.
    pub fn draw(seed: u64) -> Option<Trouble> {
        let mut rng = Rng::new(seed ^ 0x6d65_7373_6167_6573);
        let mut some = |high| if rng.chance(700_000) { rng.range(0, high) } else { 0 };
        let (steal, gas, refuse) = (some(100_000), some(200_000), some(300_000));
        (seed % 4 == 2).then_some(Trouble { steal, gas, refuse, rng })
    }
}

impl Chain {
    /// A chain without messages.
    pub fn new(epoch_millis: u64, trouble: Option<Trouble>) -> Chain {
        Chain {
            trouble,
            epoch_millis,
            rules: Rules::new(CHALLENGE_DELAY).expect("a delay that makes sense"),
            executed: Vec::new(),
            mempool: BTreeMap::new(),
            height: GENESIS,
            forks: 0,
        }
    }

    /// Lets the chain grow up to a time. Messages land or are lost on the way.
    pub fn grow(&mut self, now: u64, lost: u64, rng: &mut Rng) {
        let head = GENESIS + (now / self.epoch_millis) as i64;
        if self.mempool.is_empty() {
            self.height = self.height.max(head);
        }
        while self.height < head {
            self.height += 1;
            if !self.mempool.is_empty() && rng.chance(lost) {
                let at = rng.next() as usize % self.mempool.len();
                let nonce = self.mempool.keys().nth(at).copied();
                nonce.and_then(|nonce| self.mempool.remove(&nonce));
            }
            self.steal();
            while let Some(message) = self.mempool.remove(&self.nonce(self.height)) {
                if rng.chance(300_000) {
                    self.mempool.insert(message.nonce, message);
                    break;
                }
                let exit = if self.is_in_trouble(|trouble| trouble.gas) {
                    ExitCode::OutOfGas
                } else {
                    self.try_at(&message, self.height)
                };
                self.executed.push(Executed { height: self.height, message, exit });
            }
        }
    }

    /// Another tool takes the nonce of the next message in the pool.
    fn steal(&mut self) {
        let next = self.nonce(self.height);
        if let Some(message) = self.mempool.get(&next).cloned()
            && self.is_in_trouble(|trouble| trouble.steal)
        {
            self.mempool.insert(next, SimMessage { does: Does::Foreign, ..message });
        }
    }

    fn is_in_trouble(&mut self, of: impl Fn(&Trouble) -> u64) -> bool {
        self.trouble.as_mut().is_some_and(|trouble| {
            let likely = of(trouble);
            likely > 0 && trouble.rng.chance(likely)
        })
    }

    /// Replaces the last tipsets. Their messages go back to the mempool or are lost.
    pub fn reorganise(&mut self, depth: i64, rng: &mut Rng) {
        self.forks += 1;
        let kept = self.executed.partition_point(|executed| executed.height <= self.height - depth);
        for undone in self.executed.split_off(kept) {
            if rng.chance(600_000) {
                self.mempool.insert(undone.message.nonce, undone.message);
            }
        }
        // The mempool's messages land from the next epoch on.
    }

    /// The head's height.
    pub fn head(&self) -> i64 {
        self.height
    }

    /// The sender's next nonce, after the messages in the mempool.
    pub fn next_nonce(&self) -> u64 {
        self.mempool.keys().next_back().map_or(0, |nonce| nonce + 1).max(self.nonce(self.height))
    }

    /// The sender's next nonce by the state at a height.
    pub fn nonce(&self, height: i64) -> u64 {
        let last = self.executed.iter().rev().find(|executed| executed.height <= height);
        last.map_or(0, |executed| executed.message.nonce + 1)
    }

    /// The first nonce that the pool lacks.
    pub fn missing(&self) -> u64 {
        let next = self.nonce(self.height);
        (next..).find(|nonce| !self.mempool.contains_key(nonce)).unwrap_or(next)
    }

    /// Takes a message into the pool, unless its nonce is used. A filler pays more, so it replaces a message with its
    /// nonce. `false` if the pool refuses for now.
    pub fn push(&mut self, message: SimMessage) -> bool {
        if self.is_in_trouble(|trouble| trouble.refuse) {
            return false;
        }
        if message.nonce >= self.nonce(self.height) {
            if message.does == Does::Nothing {
                self.mempool.insert(message.nonce, message);
            } else {
                self.mempool.entry(message.nonce).or_insert(message);
            }
        }
        true
    }

    /// Where a message was executed, up to a height.
    pub fn search(&self, message: &SimMessage, height: i64) -> Option<(i64, ExitCode)> {
        let found = self.executed.iter().find(|executed| executed.height <= height && executed.message == *message);
        found.map(|executed| (executed.height, executed.exit))
    }

    /// The exit code of a message if it were executed at a height.
    pub fn try_at(&self, message: &SimMessage, height: i64) -> ExitCode {
        let precommit = self.precommit(message.sector, height);
        match (&message.does, precommit) {
            (Does::Nothing | Does::Foreign, _) => ExitCode::Ok,
            (Does::PreCommit { .. }, Some(_)) => ExitCode::Forbidden,
            (Does::PreCommit { ticket_epoch, .. }, None) if height > ticket_expires_epoch(*ticket_epoch) => {
                ExitCode::IllegalArgument
            }
            (Does::PreCommit { .. }, None) => ExitCode::Ok,
            (Does::ProveCommit { .. }, None) => ExitCode::NotFound,
            (Does::ProveCommit { .. }, Some(_)) if self.active(message.sector, height).is_some() => ExitCode::NotFound,
            (Does::ProveCommit { proof: given }, Some((epoch, comm_r))) => {
                let wanted = proof(message.sector, &comm_r, &beacon(epoch + CHALLENGE_DELAY));
                if height < self.rules.prove_commit_earliest(epoch) {
                    ExitCode::Forbidden
                } else if height > self.rules.prove_commit_deadline(epoch) || *given != wanted {
                    ExitCode::IllegalArgument
                } else {
                    ExitCode::Ok
                }
            }
        }
    }

    /// A sector's PreCommit at a height: its epoch and the replica.
    pub fn precommit(&self, sector: SectorId, height: i64) -> Option<(i64, [u8; 32])> {
        self.executed.iter().find_map(|executed| match executed.message.does {
            Does::PreCommit { comm_r, .. } if executed.took_effect(sector, height) => Some((executed.height, comm_r)),
            _ => None,
        })
    }

    /// The epoch of a sector's activation.
    pub fn active(&self, sector: SectorId, height: i64) -> Option<i64> {
        self.executed.iter().find_map(|executed| match executed.message.does {
            Does::ProveCommit { .. } if executed.took_effect(sector, height) => Some(executed.height),
            _ => None,
        })
    }

    /// A sector's PreCommit, as a manager sees it that knows this replica. There is none once the sector is active.
    pub fn find_precommit(&self, sector: SectorId, comm_r: &[u8; 32], height: i64) -> Option<Found> {
        let (epoch, found) = self.precommit(sector, height)?;
        self.active(sector, height).is_none().then_some(Found { is_ours: found == *comm_r, epoch })
    }

    /// An active sector, as a manager sees it that knows this replica.
    pub fn find_active(&self, sector: SectorId, comm_r: &[u8; 32], height: i64) -> Option<Found> {
        let epoch = self.active(sector, height)?;
        let (_, found) = self.precommit(sector, height)?;
        Some(Found { is_ours: found == *comm_r, epoch })
    }

    /// How many PreCommits and ProveCommits of a sector took effect.
    pub fn effects(&self, sector: SectorId) -> (usize, usize) {
        let took = |executed: &&Executed| executed.took_effect(sector, self.height);
        let all = self.executed.iter().filter(took);
        let precommits = all.clone().filter(|e| matches!(e.message.does, Does::PreCommit { .. })).count();
        let proves = all.filter(|e| matches!(e.message.does, Does::ProveCommit { .. })).count();
        (precommits, proves)
    }
}

impl Executed {
    fn took_effect(&self, sector: SectorId, height: i64) -> bool {
        self.height <= height && self.message.sector == sector && self.exit.is_ok()
    }
}

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

mod trouble;

pub use trouble::{Spoiler, Trouble};

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
    /// What it carries.
    pub carries: Carries,
}

/// What a message carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Carries {
    /// PreCommits, or ProveCommits, of one sector or of many.
    Parts(Vec<Part>),
    /// Nothing: it is a filler, which only uses up its nonce.
    Nothing,
    /// A message of another tool with the same key.
    Foreign,
}

/// One sector's part of a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Part {
    /// The sector.
    pub sector: SectorId,
    /// Its effect.
    pub does: Does,
}

/// The effect of a part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Does {
    /// Commits to a replica.
    PreCommit { comm_r: [u8; 32], ticket_epoch: i64 },
    /// Proves the replica.
    ProveCommit { proof: Vec<u8> },
}

impl From<Call> for Does {
    fn from(call: Call) -> Does {
        match call {
            Call::PreCommit { comm_r, ticket_epoch } => Does::PreCommit { comm_r: comm_r.0, ticket_epoch },
            Call::ProveCommit { porep } => Does::ProveCommit { proof: porep.proof.0 },
        }
    }
}

/// A message in a tipset.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The height.
    pub height: i64,
    message: SimMessage,
    outcome: Outcome,
}

/// The outcome of a message.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit code in its receipt.
    pub exit: ExitCode,
    /// The exit code of each part, as its return value has them.
    parts: Vec<ExitCode>,
}

/// The chain and its node.
#[derive(Debug)]
pub struct Chain {
    /// The length of an epoch in milliseconds.
    pub epoch_millis: u64,
    /// The network's rules.
    pub rules: Rules,
    executed: Vec<Executed>,
    /// The numbers that another tool has taken, each with the height.
    taken: Vec<(i64, SectorId)>,
    mempool: BTreeMap<u64, SimMessage>,
    height: i64,
    /// How many reorganisations there have been.
    pub forks: u64,
    /// The faults, until all faults stop.
    pub trouble: Option<Trouble>,
    /// What spoils messages of many sectors, until all faults stop.
    pub spoiler: Option<Spoiler>,
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

impl Chain {
    /// A chain without messages.
    pub fn new(epoch_millis: u64, trouble: Option<Trouble>, spoiler: Option<Spoiler>) -> Chain {
        Chain {
            trouble,
            spoiler,
            taken: Vec::new(),
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
            self.take_number();
            while let Some(message) = self.mempool.remove(&self.nonce(self.height)) {
                if rng.chance(300_000) {
                    self.mempool.insert(message.nonce, message);
                    break;
                }
                let outcome = if self.is_in_trouble(|trouble| trouble.gas) {
                    Outcome::failed(&message, ExitCode::OutOfGas)
                } else {
                    self.try_at(&message, self.height)
                };
                let outcome = self.spoiled(&message, outcome);
                self.executed.push(Executed { height: self.height, message, outcome });
            }
        }
    }

    /// Another tool takes the nonce of the next message in the pool.
    fn steal(&mut self) {
        let next = self.nonce(self.height);
        if self.mempool.contains_key(&next) && self.is_in_trouble(|trouble| trouble.steal) {
            self.mempool.insert(next, SimMessage { nonce: next, carries: Carries::Foreign });
        }
    }

    /// Another tool takes the number of a PreCommit in the next message of the pool.
    fn take_number(&mut self) {
        let next = self.nonce(self.height);
        let Some(spoiler) = &mut self.spoiler else { return };
        let parts = self.mempool.get(&next).map(SimMessage::parts).unwrap_or_default();
        if parts.is_empty() || !spoiler.rng.chance(spoiler.taken) {
            return;
        }
        let Part { sector, .. } = parts[spoiler.rng.next() as usize % parts.len()];
        if self.precommit(sector, self.height).is_none() {
            self.taken.push((self.height, sector));
        }
    }

    /// The outcome of a message, of whose ProveCommits one may have failed.
    fn spoiled(&mut self, message: &SimMessage, mut outcome: Outcome) -> Outcome {
        let are_proofs = message.parts().iter().all(|part| matches!(part.does, Does::ProveCommit { .. }));
        if let Some(spoiler) = &mut self.spoiler
            && are_proofs
            && message.parts().len() > 1
            && outcome.exit.is_ok()
            && spoiler.rng.chance(spoiler.refused)
        {
            let at = spoiler.rng.next() as usize % outcome.parts.len();
            outcome.parts[at] = ExitCode::Forbidden;
        }
        outcome
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
        let kept_height = self.height - depth;
        self.taken.retain(|(height, _)| *height <= kept_height);
        let kept = self.executed.partition_point(|executed| executed.height <= kept_height);
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

    /// The nonces of the messages in the pool.
    pub fn pending(&self) -> Vec<u64> {
        self.mempool.keys().copied().collect()
    }

    /// Whether the pool has a message that would do the same for a sector, and may still land.
    pub fn may_land(&self, part: &Part) -> bool {
        let is_alike = |other: &Part| {
            other.sector == part.sector
                && matches!(
                    (&other.does, &part.does),
                    (Does::PreCommit { .. }, Does::PreCommit { .. })
                        | (Does::ProveCommit { .. }, Does::ProveCommit { .. })
                )
        };
        self.mempool.values().any(|message| message.parts().iter().any(is_alike))
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
            if message.carries == Carries::Nothing {
                self.mempool.insert(message.nonce, message);
            } else {
                self.mempool.entry(message.nonce).or_insert(message);
            }
        }
        true
    }

    /// A message that was executed, up to a height.
    pub fn search(&self, message: &SimMessage, height: i64) -> Option<&Executed> {
        self.executed.iter().find(|executed| executed.height <= height && executed.message == *message)
    }

    /// Whether a reorganisation of this depth would undo a message that carries many sectors.
    pub fn has_many_within(&self, depth: i64) -> bool {
        let undone = self.executed.iter().filter(|executed| executed.height > self.height - depth);
        undone.into_iter().any(|executed| executed.message.parts().len() > 1)
    }

    /// The outcome of a message if it were executed at a height. PreCommits succeed together or not at all. ProveCommits
    /// succeed or fail one by one; if none succeeds, the message fails.
    pub fn try_at(&self, message: &SimMessage, height: i64) -> Outcome {
        let parts: Vec<_> = message.parts().iter().map(|part| self.try_part(part, height)).collect();
        let is_atomic = message.parts().iter().any(|part| matches!(part.does, Does::PreCommit { .. }));
        match parts.iter().find(|exit| !exit.is_ok()) {
            Some(exit) if is_atomic || parts.iter().all(|exit| !exit.is_ok()) => Outcome::failed(message, *exit),
            _ => Outcome { exit: ExitCode::Ok, parts },
        }
    }

    fn try_part(&self, part: &Part, height: i64) -> ExitCode {
        let Part { sector, does } = part;
        match (does, self.precommit(*sector, height)) {
            (Does::PreCommit { .. }, Some(_)) => ExitCode::Forbidden,
            (Does::PreCommit { ticket_epoch, .. }, None) if height > ticket_expires_epoch(*ticket_epoch) => {
                ExitCode::IllegalArgument
            }
            (Does::PreCommit { .. }, None) => ExitCode::Ok,
            (Does::ProveCommit { .. }, None) => ExitCode::NotFound,
            (Does::ProveCommit { .. }, Some(_)) if self.active(*sector, height).is_some() => ExitCode::NotFound,
            (Does::ProveCommit { proof: given }, Some((epoch, comm_r))) => {
                let wanted = proof(*sector, &comm_r, &beacon(epoch + CHALLENGE_DELAY));
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

    /// A sector's PreCommit at a height: its epoch and the replica. It may be another tool's.
    pub fn precommit(&self, sector: SectorId, height: i64) -> Option<(i64, [u8; 32])> {
        let ours = self.executed.iter().find_map(|executed| match executed.took_effect(sector, height)?.does {
            Does::PreCommit { comm_r, .. } => Some((executed.height, comm_r)),
            Does::ProveCommit { .. } => None,
        });
        ours.or_else(|| {
            let taken = self.taken.iter().find(|(at, of)| *of == sector && *at <= height);
            taken.map(|(at, _)| (*at, rng::bytes(&[9, sector.number.0])))
        })
    }

    /// Whether a PreCommit of ours is on chain.
    pub fn has_ours(&self, sector: SectorId) -> bool {
        self.effects(sector).0 > 0
    }

    /// The epoch of a sector's activation.
    pub fn active(&self, sector: SectorId, height: i64) -> Option<i64> {
        self.executed.iter().find_map(|executed| match executed.took_effect(sector, height)?.does {
            Does::ProveCommit { .. } => Some(executed.height),
            Does::PreCommit { .. } => None,
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
        let took: Vec<_> = self.executed.iter().filter_map(|e| e.took_effect(sector, self.height)).collect();
        let precommits = took.iter().filter(|part| matches!(part.does, Does::PreCommit { .. })).count();
        (precommits, took.len() - precommits)
    }
}

impl SimMessage {
    /// Its parts.
    pub fn parts(&self) -> &[Part] {
        match &self.carries {
            Carries::Parts(parts) => parts,
            Carries::Nothing | Carries::Foreign => &[],
        }
    }
}

impl Outcome {
    /// A message that fails as a whole.
    fn failed(message: &SimMessage, exit: ExitCode) -> Outcome {
        Outcome { exit, parts: vec![exit; message.parts().len()] }
    }
}

impl Executed {
    /// The outcome of the part at a position, and how many parts share it because the message failed as a whole.
    pub fn exit_of(&self, position: u32) -> (ExitCode, u32) {
        let Outcome { exit, parts } = &self.outcome;
        match exit.is_ok() {
            true => (parts.get(position as usize).copied().unwrap_or(*exit), 1),
            false => (*exit, parts.len().max(1) as u32),
        }
    }

    /// Its part about a sector, if that took effect up to a height.
    fn took_effect(&self, sector: SectorId, height: i64) -> Option<&Part> {
        let mut parts = self.message.parts().iter().zip(&self.outcome.parts);
        let took = parts.find(|(part, exit)| part.sector == sector && exit.is_ok());
        took.filter(|_| self.height <= height).map(|(part, _)| part)
    }
}

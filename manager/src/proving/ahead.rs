//! Reads ahead: the sectors of the deadlines that come next are read as for a proof, with made-up randomness. So what cannot
//! be read is told while there is time to mend it, and not when the deadline is open.
//!
//! All sectors are read, not a sample: a single bad file is what costs a fault, and only a read of that sector shows it. It
//! costs as many reads as the proof itself, 10 challenges a sector, and nothing on the bus, because the vanilla proofs are
//! thrown away. They are made in the gaps: few tasks at a time, and none while the sectors of a proof are read.
//!
//! A sector that fails is read again, alone with the others that failed, until it can be read or the deadline is challenged.
//! A manager that restarts begins anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use sealbus_nats::post::PostSaid;
use sealbus_schema::{
    ErrorCode, MinerId, Randomness, SectorNumber,
    post::{PostJob, PostKind, PostSubject},
};
use serde::{Deserialize, Serialize};

use super::{
    Error, Memory, Proving,
    begin::to_prove,
    make::OFFER_AGAIN,
    proof::ProofId,
    reads::{Piece, Reads},
    tasks::Tasks,
    turn::{Turn, turns_ahead},
};
use crate::{
    chain::{
        Transport,
        randomness::{blake2b256, masked},
        types::{Epoch, ProvingDeadline, TipSet},
    },
    drive::address,
    waits::{Cause, Subject},
};

/// How many deadlines are read ahead: on the main network from the second to the fourth after the open one. The next one is
/// challenged within 20 minutes.
const TURNS: usize = 3;
/// How many tasks of a store are in the queue at a time. A proof's own tasks wait behind no more than these.
const AT_ONCE: usize = 2;
/// How many sectors are named in an alarm.
const NAMED: usize = 3;

/// What reads ahead have found of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadAhead {
    /// Which proof comes.
    #[serde(skip)]
    pub id: ProofId,
    /// See [`Turn::challenge`].
    pub challenge: Epoch,
    /// See [`Turn::open`].
    pub open: Epoch,
    /// How many sectors are to be proven.
    pub sectors: u64,
    /// How many of them were read.
    pub read: u64,
    /// Those that could not be read. The rest is still to be read.
    pub unread: Vec<Unread>,
    /// The slowest sector, and its milliseconds.
    pub slowest: Option<(SectorNumber, u64)>,
    /// The head at the last change.
    pub at: Epoch,
}

/// A sector that could not be read ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The sector.
    pub number: SectorNumber,
    /// The store with its files; `None` if the manager does not know.
    pub store: Option<String>,
    /// Why.
    pub cause: String,
    /// Whether that will not pass by itself.
    pub is_lasting: bool,
}

/// A partition that is being read ahead.
pub struct Ahead {
    turn: Turn,
    of: PostSubject,
    found: ReadAhead,
    /// What is known of the sectors of the present round: all in the first one, and those that failed in each later one.
    reads: Reads,
    /// How many sectors were read in the rounds before.
    read_before: u64,
    /// When tasks were offered last, by their numbers.
    offered: BTreeMap<u32, Epoch>,
    heard: Vec<PostSaid>,
    /// When everything of the round was heard.
    ended: Option<Epoch>,
    /// Whether what is known is stored.
    is_stored: bool,
    /// The stores of all its sectors.
    stores: BTreeSet<String>,
}

impl ReadAhead {
    /// How many sectors are still to be read.
    pub fn left(&self) -> u64 {
        self.sectors.saturating_sub(self.read + self.unread.len() as u64)
    }

    /// What is known of a sector that could not be read.
    pub fn unread_of(&self, number: SectorNumber) -> Option<&Unread> {
        self.unread.iter().find(|unread| unread.number == number)
    }

    /// What a person should know before the deadline opens; `None` as long as all is well. `by` is the epoch from which on
    /// all should have been read.
    pub fn trouble(&self, head: Epoch, by: Epoch) -> Option<String> {
        let (bad, left) = (self.unread.len(), self.left());
        let mut text = String::new();
        if bad > 0 {
            let named = self.unread.iter().take(NAMED).map(|unread| {
                let store = unread.store.as_ref().map(|store| format!(" (store `{store}`)")).unwrap_or_default();
                format!("sector {}{store}: {}", unread.number, unread.cause)
            });
            let named = named.collect::<Vec<_>>().join("; ");
            let more = if bad > NAMED { format!("; and {} more", bad - NAMED) } else { String::new() };
            let _ = write!(text, "{bad} of {} sectors cannot be read: {named}{more}; ", self.sectors);
        }
        if left > 0 && head >= by {
            let _ = write!(text, "{left} of {} sectors were not read ahead in time; ", self.sectors);
        }
        if text.is_empty() {
            return None;
        }
        let _ =
            write!(text, "deadline {} opens at epoch {}, in {} epochs", self.id.deadline, self.open, self.open - head);
        Some(text)
    }
}

impl Ahead {
    /// Whether a job is this one's.
    pub fn is_of(&self, miner: MinerId, job: &PostJob) -> bool {
        self.of.miner == miner && self.of.job == *job
    }

    /// Remembers what a worker says until the next look.
    pub fn hear(&mut self, said: &PostSaid) {
        self.heard.push(said.clone());
    }

    /// Its deadline's turn.
    pub const fn turn(&self) -> &Turn {
        &self.turn
    }

    /// The stores of its sectors.
    pub const fn stores(&self) -> &BTreeSet<String> {
        &self.stores
    }

    /// Takes what was heard since the last look.
    fn take_heard(&mut self, head: Epoch) {
        if self.heard.is_empty() && !self.offered.is_empty() {
            return;
        }
        let heard = std::mem::take(&mut self.heard);
        for said in &heard {
            self.reads.hear(&said.worker, &said.report, head);
        }
        if self.ended.is_none() && self.reads.unheard().is_empty() {
            self.ended = Some(head);
        }
        let before = self.found.clone();
        let unread = std::mem::take(&mut self.found.unread);
        let mut unread: BTreeMap<_, _> = unread.into_iter().map(|unread| (unread.number, unread)).collect();
        let mut read = self.read_before;
        for (number, _) in self.reads.times() {
            unread.remove(&number);
            read += 1;
        }
        for (sector, cause, is_lasting) in self.reads.failed() {
            let (number, store) = (sector.number, sector.store.clone());
            unread.insert(number, Unread { number, store, cause, is_lasting });
        }
        self.found.unread = unread.into_values().collect();
        self.found.read = read;
        self.found.slowest = self.found.slowest.into_iter().chain(self.reads.slowest()).max_by_key(|(_, ms)| *ms);
        self.is_stored &= self.found == before;
    }

    /// Whether what is known is to be stored: it has changed, and not more than once an epoch, because many sectors of a lost
    /// store have long causes.
    fn is_to_be_stored(&self, head: Epoch) -> bool {
        !self.is_stored && (self.found.at < head || self.ended == Some(head))
    }

    /// Whether what failed is to be read again: a sixth of a window after the last time, 5 minutes on the main network.
    fn is_again_due(&self, head: Epoch) -> bool {
        let pause = (self.turn.window() / 6).max(1);
        !self.found.unread.is_empty() && self.ended.is_some_and(|ended| head >= ended + pause)
    }

    /// The tasks to offer now: of each store a few.
    fn due(&mut self, head: Epoch, in_queue: &mut BTreeMap<String, usize>) -> Vec<Piece> {
        let mut due = Vec::new();
        if self.ended.is_some() {
            return due;
        }
        for piece in self.reads.unheard() {
            let taken = in_queue.entry(piece.store.clone()).or_default();
            if *taken == AT_ONCE {
                continue;
            }
            *taken += 1;
            if self.offered.get(&piece.number).is_none_or(|last| head >= last + OFFER_AGAIN) {
                self.offered.insert(piece.number, head);
                due.push(piece);
            }
        }
        due
    }
}

impl<T: Transport, B: Tasks> Proving<'_, T, B> {
    /// Begins to read the deadlines that come next, once for each that opens, and goes on with those that are being read.
    pub(super) async fn read_ahead(
        &self,
        memory: &mut Memory,
        miner: MinerId,
        told: &ProvingDeadline,
        head: &TipSet,
    ) -> Result<(), Error> {
        self.forget_challenged(memory, miner, head.height).await?;
        let open = (told.period_start, told.index);
        if memory.looked_ahead.get(&miner) != Some(&open) {
            for turn in turns_ahead(told, head.height, TURNS) {
                self.begin_ahead(memory, miner, &turn, head).await?;
            }
            memory.looked_ahead.insert(miner, open);
        }
        // A proof's own reads go first.
        let is_reading = |making: &super::Making| !making.reads.is_settled() && head.height < making.turn.cut();
        let is_gap = !memory.making.values().any(|making| !making.withdrawn && is_reading(making));
        let Memory { ahead, queues, .. } = memory;
        let mut mine: Vec<_> = ahead.iter_mut().filter(|(id, _)| id.miner == miner).map(|(_, ahead)| ahead).collect();
        mine.sort_by_key(|ahead| ahead.turn.open);
        let mut in_queue = BTreeMap::new();
        for ahead in mine {
            ahead.take_heard(head.height);
            if ahead.is_to_be_stored(head.height) {
                ahead.found.at = head.height;
                let mut tx = self.store.begin_as(self.epoch).await?;
                tx.save_read_ahead(&ahead.found).await?;
                tx.commit().await?;
                ahead.is_stored = true;
            }
            if ahead.is_again_due(head.height) {
                self.begin_again(ahead, head).await?;
            }
            if is_gap {
                let due = ahead.due(head.height, &mut in_queue);
                let limit_ms = self.millis_to(ahead.turn.challenge, head);
                self.offer_pieces(queues, &ahead.of, ahead.reads.sectors(), due, (limit_ms, true)).await?;
            }
            self.tell_ahead(&ahead.found, ahead.turn.challenge - ahead.turn.window(), head.height);
        }
        Ok(())
    }

    /// Begins to read a deadline's partitions.
    async fn begin_ahead(&self, memory: &mut Memory, miner: MinerId, turn: &Turn, head: &TipSet) -> Result<(), Error> {
        let partitions = self.node.miner_partitions(&address(miner), turn.deadline, &head.key).await?;
        let known = self.store.reads_ahead(Some(miner)).await?;
        for (partition, index) in partitions.iter().zip(0..) {
            let id = ProofId { miner, period: turn.period, deadline: turn.deadline, partition: index };
            let numbers = to_prove(partition);
            if numbers.is_empty() || memory.ahead.contains_key(&id) {
                continue;
            }
            let reads = Reads::new(self.provables(miner, &numbers, head).await?);
            // What an earlier manager could not read counts until it is read again.
            let known = known.iter().find(|known| known.id == id);
            let mut unread = known.map(|known| known.unread.clone()).unwrap_or_default();
            unread.retain(|unread| numbers.contains(&unread.number.0));
            let found = ReadAhead {
                id,
                challenge: turn.challenge,
                open: turn.open,
                sectors: numbers.len() as u64,
                read: 0,
                unread,
                slowest: None,
                at: head.height,
            };
            let mut tx = self.store.begin_as(self.epoch).await?;
            tx.save_read_ahead(&found).await?;
            tx.commit().await?;
            let stores = reads.sectors().iter().filter_map(|sector| sector.store.clone()).collect();
            let ahead = Ahead {
                turn: *turn,
                of: self.trial(id, head)?,
                found,
                reads,
                read_before: 0,
                offered: BTreeMap::new(),
                heard: Vec::new(),
                ended: None,
                is_stored: true,
                stores,
            };
            memory.ahead.insert(id, ahead);
        }
        Ok(())
    }

    /// Begins another round, with the sectors that failed. Somebody may have moved their files.
    async fn begin_again(&self, ahead: &mut Ahead, head: &TipSet) -> Result<(), Error> {
        let failed: BTreeSet<SectorNumber> = ahead.found.unread.iter().map(|unread| unread.number).collect();
        let numbers: Vec<u64> = failed.iter().map(|number| number.0).collect();
        let stores = self.store.stores_of(ahead.of.miner, &numbers).await?;
        let sectors = ahead.reads.sectors().iter().filter(|sector| failed.contains(&sector.number)).cloned();
        let sectors = sectors.map(|mut sector| {
            sector.store = stores.get(&sector.number.0).cloned();
            sector
        });
        ahead.of = self.trial(ahead.found.id, head)?;
        ahead.read_before = ahead.found.read;
        ahead.reads = Reads::new(sectors.collect());
        ahead.offered.clear();
        ahead.ended = None;
        Ok(())
    }

    /// What is read on trial. The job's name is another one each time, so that an earlier manager's tasks are none of ours.
    fn trial(&self, id: ProofId, head: &TipSet) -> Result<PostSubject, Error> {
        let ProofId { miner, period, deadline, partition } = id;
        let name = format!("a-{period}-{deadline}-{partition}-{}", head.height);
        let job = name.parse().map_err(|_| Error::Odd(format!("{name} is no name for tasks")))?;
        let (proof, randomness) = (self.seal_proof(miner)?, made_up(&format!("{miner} {name}")));
        Ok(PostSubject { miner, job, post: PostKind::Window, proof, randomness })
    }

    /// Drops the deadlines whose proofs are being made now: their troubles are told by these.
    async fn forget_challenged(&self, memory: &mut Memory, miner: MinerId, head: Epoch) -> Result<(), Error> {
        let is_over = |id: &ProofId, ahead: &Ahead| id.miner == miner && ahead.turn.challenge < head;
        let over: Vec<ProofId> =
            memory.ahead.iter().filter(|(id, ahead)| is_over(id, ahead)).map(|(id, _)| *id).collect();
        let is_first = !memory.looked_ahead.contains_key(&miner);
        if over.is_empty() && !is_first {
            return Ok(());
        }
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.drop_reads_ahead(miner, head).await?;
        tx.commit().await?;
        for id in &over {
            let Some(ahead) = memory.ahead.remove(id) else { continue };
            if let Err(error) = self.tasks.withdraw(miner, &ahead.of.job).await {
                tracing::debug!(%error, "tasks of no use stay in the queue until they are too old");
            }
        }
        // An earlier manager may have left alarms, too. Those about deadlines that are still to come stay.
        let kept = self.store.reads_ahead(None).await?.into_iter().map(|known| known.id);
        let proves = |id: &ProofId| self.config.miner(id.miner).is_some_and(|miner| miner.prove);
        self.waits.keep_only(&["ahead"], &kept.filter(proves).map(Subject::Ahead).collect());
        Ok(())
    }

    fn tell_ahead(&self, found: &ReadAhead, by: Epoch, head: Epoch) {
        let subject = Subject::Ahead(found.id);
        let Some(text) = found.trouble(head, by) else { return self.waits.goes_on(&subject) };
        let is_lasting = found.unread.iter().any(|unread| unread.is_lasting);
        let cause = match is_lasting {
            true => Cause::to_mend(ErrorCode::POST_AT_RISK, text),
            false => Cause::passing(ErrorCode::POST_AT_RISK, text),
        };
        self.waits.waits(&subject, cause, self.config.chain.poll_interval());
    }
}

/// Randomness that no chain has drawn, masked as the proofs want it.
pub fn made_up(text: &str) -> Randomness {
    Randomness(masked(blake2b256(text.as_bytes())))
}

//! The result of a soak of proving, printed and checked.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Context, ensure};
use fvm_shared::econ::TokenAmount;
use sealbus_manager::{
    chain::params::METHOD_SUBMIT_WINDOWED_POST,
    money::{Purpose, Quantity},
    proving::proof::{PartitionProof, ProofState},
};
use sealbus_schema::{MinerId, SectorId, SectorNumber};
use serde::Deserialize;
use serde_json::json;

use super::{Away, LOOKBACK, ProvingSoak, Run, strikes::Counts};
use crate::{
    command_line,
    scripted::{book, world::World},
};

/// Of a turn this share may be dead.
const DEAD_SHARE: u32 = 3;
/// How long after the close a message that was pushed before it may be executed.
const LATE_EPOCHS: i64 = 10;

/// A soak that has come to its end.
pub struct Report {
    soak: ProvingSoak,
    took: Duration,
    counts: Counts,
    /// The epochs during which things were killed, and those until all had recovered.
    epochs: (i64, i64),
    miners: BTreeMap<MinerId, OfMiner>,
    faults: Vec<Fault>,
    /// How many files were away.
    aways: usize,
    proofs: Vec<PartitionProof>,
    /// What came of each purpose, and whether the manager's `costs` says that the book closes.
    money: BTreeMap<Purpose, TokenAmount>,
    book_closes: bool,
    /// The fees for faults and the daily fees, as the chain tells.
    fees: [TokenAmount; 2],
}

/// What the chain tells of a miner.
#[derive(Debug, Deserialize)]
struct OfMiner {
    posts: Vec<(i64, Posted)>,
    deadline_ends: Vec<End>,
    failed: Vec<Failed>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "the error is for people")]
struct Failed {
    epoch: i64,
    method: u64,
    error: String,
}

#[derive(Debug, Deserialize)]
struct Posted {
    deadline: u64,
    partitions: Vec<u64>,
    skipped: Vec<u64>,
    is_right: bool,
}

#[derive(Debug, Deserialize)]
struct End {
    epoch: i64,
    deadline: u64,
    faulty: Vec<u64>,
    not_recovered: Vec<u64>,
    fault_fee: String,
    daily_fee: String,
}

/// A sector that was not proven in a turn.
#[derive(Debug)]
struct Fault {
    sector: SectorId,
    deadline: u64,
    /// When the deadline opened.
    open: i64,
    how: How,
    cause: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Its partition was proven without it.
    Skipped,
    /// Its partition was not proven.
    Missed,
    /// The same, while it was recovering.
    NotRecovered,
}

impl Report {
    pub(super) fn read(
        soak: &ProvingSoak,
        mut run: Run,
        recovered: i64,
        begin: &TokenAmount,
    ) -> anyhow::Result<Report> {
        let stats = run.world.call_chain("Devnet.Stats", json!([]))?;
        let mut miners = BTreeMap::new();
        for &miner in &run.world.miners {
            let of_miner = serde_json::from_value(stats["miners"][miner.0.to_string()].clone());
            miners.insert(miner, of_miner.context("the chain's counts")?);
        }
        let faults = faults(soak, &run, &miners)?;
        let store = run.world.store()?;
        let proofs = run.world.block_on(store.last_proofs(None, 10_000))?;
        let (money, fees) = money(&mut run.world, &miners, begin)?;
        let costs: serde_json::Value =
            serde_json::from_str(&command_line::done(&run.world.manager_config(), &["costs", "--json"]))?;
        Ok(Report {
            soak: soak.clone(),
            took: run.clock.span(),
            counts: run.strikes.counts,
            epochs: (run.last - run.first, recovered),
            miners,
            faults,
            aways: run.aways.len(),
            proofs,
            money,
            book_closes: costs["book"]["closes"] == true,
            fees,
        })
    }

    /// Checks that nothing was lost without a cause.
    pub fn check(&self) -> anyhow::Result<()> {
        let unexplained: Vec<_> = self.faults.iter().filter(|fault| fault.cause.is_none()).collect();
        ensure!(unexplained.is_empty(), "faults without a cause, seed {}: {unexplained:#?}", self.soak.seed);
        ensure!(
            self.counts.strikes > 0 && self.counts.managers + self.counts.nats + self.counts.workers > 0,
            "nothing was killed"
        );
        for (miner, of_miner) in &self.miners {
            ensure!(of_miner.posts.iter().all(|(_, posted)| posted.is_right), "a proof of {miner} was wrong");
            for failed in &of_miner.failed {
                // A proof at the last moment may come after the close. Its partition is missed then, which has a cause.
                let is_late = |fault: &Fault| {
                    let late = failed.epoch - (fault.open + self.soak.window_epochs);
                    fault.sector.miner == *miner && fault.how != How::Skipped && (0..LATE_EPOCHS).contains(&late)
                };
                let is_explained = failed.method == METHOD_SUBMIT_WINDOWED_POST && self.faults.iter().any(is_late);
                ensure!(is_explained, "a message of {miner} failed on chain: {failed:?}");
            }
        }
        let count = |how: How| self.faults.iter().filter(|fault| fault.how == how).count();
        ensure!(self.aways == 0 || count(How::Skipped) > 0, "files were away, and no sector was skipped");
        ensure!(
            !self.soak.blackout || count(How::Missed) > 0,
            "no prover was there for a turn, and nothing was missed"
        );
        for fault in self.faults.iter().filter(|fault| fault.how == How::Skipped) {
            let is_of = |proof: &&PartitionProof| {
                (proof.id.miner, proof.id.deadline, proof.open) == (fault.sector.miner, fault.deadline, fault.open)
            };
            let mut skipped = self.proofs.iter().filter(is_of).flat_map(|proof| &proof.skipped);
            let named = skipped.any(|skipped| skipped.number == fault.sector.number && !skipped.cause.is_empty());
            ensure!(named, "the manager does not say why it left out {fault:?}");
        }
        ensure!(self.book_closes, "the money book does not close");
        for (purpose, fee) in [Purpose::Penalty, Purpose::Fee].into_iter().zip(&self.fees) {
            let booked = self.money.get(&purpose).cloned().unwrap_or_default();
            ensure!(-&booked == *fee, "{purpose:?}: {booked} in the book, {fee} on chain");
        }
        Ok(())
    }

    fn partitions(&self) -> usize {
        self.miners.values().flat_map(|miner| &miner.posts).map(|(_, posted)| posted.partitions.len()).sum()
    }
}

/// All sectors that were not proven, each with its cause, if there is one.
fn faults(soak: &ProvingSoak, run: &Run, miners: &BTreeMap<MinerId, OfMiner>) -> anyhow::Result<Vec<Fault>> {
    let mut faults = Vec::new();
    for (&miner, of_miner) in miners {
        let told =
            run.world.call_chain("Filecoin.StateMinerProvingDeadline", json!([format!("t0{}", miner.0), null]))?;
        let an_open = told["Open"].as_i64().context("no deadline")?;
        let open_at = |epoch: i64| epoch - (epoch - an_open).rem_euclid(soak.window_epochs);
        let mut add = |epoch: i64, deadline: u64, how: How, sectors: &[u64]| {
            for &number in sectors {
                let (sector, open) = (SectorId { miner, number: SectorNumber(number) }, open_at(epoch));
                faults.push(Fault { sector, deadline, open, how, cause: cause(soak, run, sector, open) });
            }
        };
        for (epoch, posted) in &of_miner.posts {
            add(*epoch, posted.deadline, How::Skipped, &posted.skipped);
        }
        for end in &of_miner.deadline_ends {
            add(end.epoch, end.deadline, How::Missed, &end.faulty);
            add(end.epoch, end.deadline, How::NotRecovered, &end.not_recovered);
        }
    }
    faults.sort_by_key(|fault| (fault.open, fault.sector));
    Ok(faults)
}

/// Why a sector could not be proven in a turn.
fn cause(soak: &ProvingSoak, run: &Run, sector: SectorId, open: i64) -> Option<String> {
    let from = run.clock.when(open - soak.window_epochs / LOOKBACK)?;
    let to = run.clock.when(open + soak.window_epochs)?;
    let was_away = |away: &Away| away.sector == sector && away.from < to && away.to.is_none_or(|back| from < back);
    if run.aways.iter().any(was_away) {
        return Some("its file was away".to_owned());
    }
    let (dead, whole) = (run.strikes.dead(from, to), to - from);
    let text = || format!("nobody could work for {:.1} of {:.1} s", dead.as_secs_f64(), whole.as_secs_f64());
    (dead * DEAD_SHARE > whole).then(text)
}

/// What came of each purpose by the book, which must equal the chain; and what the chain took as fees until where the book
/// ends.
fn money(
    world: &mut World,
    miners: &BTreeMap<MinerId, OfMiner>,
    begin: &TokenAmount,
) -> anyhow::Result<(BTreeMap<Purpose, TokenAmount>, [TokenAmount; 2])> {
    book::add_up(world, begin)?;
    let mut money: BTreeMap<Purpose, TokenAmount> = BTreeMap::new();
    for booked in book::entries(world)?.iter().filter(|booked| booked.entry.quantity == Quantity::Balance) {
        *money.entry(booked.entry.purpose).or_default() += &booked.entry.amount;
    }
    let end = book::end(world)?.context("there is no book")?.epoch;
    let mut fees = [TokenAmount::default(), TokenAmount::default()];
    for ended in miners.values().flat_map(|miner| &miner.deadline_ends).filter(|ended| ended.epoch < end) {
        fees[0] += book::atto(&json!(ended.fault_fee))?;
        fees[1] += book::atto(&json!(ended.daily_fee))?;
    }
    Ok((money, fees))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProvingSoak { seed, miners, sectors, workers, provers, periods, window_epochs, epoch_millis, .. } =
            self.soak;
        let window = Duration::from_millis(epoch_millis) * window_epochs as u32;
        writeln!(f, "\nProving soak, seed {seed}: {:.0} s", self.took.as_secs_f64())?;
        writeln!(
            f,
            "{miners} miners with {sectors} sectors each; {workers} workers, {provers} of them provers; {periods} proving periods \
             of {} deadlines of {:.1} s, or more where the machine was slow",
            super::DEADLINES,
            window.as_secs_f64()
        )?;
        writeln!(f, "{}", self.counts)?;
        let count = |how: How| self.faults.iter().filter(|fault| fault.how == how).count();
        let of_state = |state: ProofState| self.proofs.iter().filter(|proof| proof.state == state).count();
        for (name, value) in [
            ("epochs with kills", self.epochs.0 as usize),
            ("epochs until all had recovered", self.epochs.1 as usize),
            ("partitions proven on chain", self.partitions()),
            ("partitions landed, by the manager", of_state(ProofState::Landed)),
            ("partitions missed, by the manager", of_state(ProofState::Missed)),
            ("files taken away", self.aways),
            ("sectors skipped", count(How::Skipped)),
            ("sectors missed", count(How::Missed)),
            ("recoveries missed", count(How::NotRecovered)),
            ("sectors faulty at the end", 0),
            ("messages failed on chain", self.miners.values().map(|miner| miner.failed.len()).sum()),
        ] {
            writeln!(f, "{name:<36}{value:>8}")?;
        }
        writeln!(f, "\n{:<14}{:<10}{:<14}{:<10}CAUSE", "SECTOR", "DEADLINE", "HOW", "OPEN")?;
        for Fault { sector, deadline, open, how, cause } in &self.faults {
            let cause = cause.as_deref().unwrap_or("NONE");
            writeln!(f, "{:<14}{deadline:<10}{:<14}{open:<10}{cause}", sector.to_string(), format!("{how:?}"))?;
        }
        writeln!(f, "\n{:<14}{:>30}", "PURPOSE", "attoFIL")?;
        for (purpose, amount) in &self.money {
            writeln!(f, "{:<14}{:>30}", format!("{purpose:?}"), amount.atto().to_string())?;
        }
        writeln!(f, "the book equals the chain: {}", if self.book_closes { "yes, to the attoFIL" } else { "NO" })
    }
}
